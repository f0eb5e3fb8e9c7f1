// What files of f32 tensors that lie one after the other have in common, whatever their headers are like.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";
import { numel } from "../shape.js";
import { entryOf, type WeightEntry, type WeightFile } from "./weights.js";
import { asBytes, readFully } from "./whole-io.js";

export interface Place extends WeightEntry {
  readonly byteOffset: number;
}

/** An open file. Close it, or declare it with `await using`. */
export class F32File implements WeightFile {
  readonly #handle: FileHandle;

  /** @internal */
  constructor(
    readonly path: string,
    readonly tensors: ReadonlyMap<string, Place>,
    handle: FileHandle,
  ) {
    this.#handle = handle;
  }

  async readFloats(name: string): Promise<Float32Array> {
    const { dtype, shape, byteOffset } = entryOf(this.path, this.tensors, name);
    if (dtype !== "F32")
      throw new HeedError("ERR_FORMAT", `${this.path}: expected ${name} in F32, got ${dtype}: a quantised model`);
    const values = new Float32Array(numel(shape));
    await naming(this.path, () => readFully(this.#handle, asBytes(values), byteOffset, this.path));
    return values;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
