/** Tensors of a reference file: floats, and ids as i32. */
import { tensor } from "../../lib/core/creation.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import type { IntTensor } from "../../lib/core/tensor.js";

export interface Oracle {
  has(name: string): boolean;
  /** Returns the floats of a tensor. */
  floats(name: string): Float32Array;
  /** Returns the shape of a tensor. */
  shape(name: string): readonly number[];
  /** Returns the integers of a tensor as numbers. */
  integers(name: string): number[];
  /** Returns the integers of a tensor on the CPU. */
  ids(name: string): IntTensor;
}

/** Reads a file with tensors in F32 and I64. */
export async function readOracle(path: string): Promise<Oracle> {
  await using file = await readSafetensors(path);
  const floats = new Map<string, Float32Array>();
  const integers = new Map<string, number[]>();
  const shapes = new Map<string, readonly number[]>();
  for (const [name, { dtype, shape }] of file.tensors) {
    shapes.set(name, shape);
    if (dtype === "F32") floats.set(name, await file.readFloats(name));
    else if (dtype === "I64") {
      const bytes = await file.read(name);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      integers.set(
        name,
        Array.from({ length: bytes.byteLength / 8 }, (_, i) => Number(view.getBigInt64(8 * i, true))),
      );
    }
  }
  return {
    has: (name) => shapes.has(name),
    floats: (name) => floats.get(name)!,
    shape: (name) => shapes.get(name)!,
    integers: (name) => integers.get(name)!,
    ids: (name) => tensor(Int32Array.from(integers.get(name)!), [...shapes.get(name)!], { device: "cpu" }),
  };
}
