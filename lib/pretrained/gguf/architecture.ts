import type { GgufFile } from "../../formats/gguf.js";
import type { WeightFile } from "../../formats/weights.js";
import type { GgufInputValue } from "../../formats/write-gguf.js";
import type { Module } from "../../nn/module.js";
import type { ModelOptions } from "../../models/model.js";
import type { GgufMetadata } from "./metadata.js";

/** How a parameter stands in a GGUF file. */
export interface GgufParameter {
  name: string;
  /** Whether a matrix is [in, out] in the model: the file has it [out, in]. */
  transposed?: boolean;
}

/** How models of one kind come out of GGUF files, and go into them. */
export interface GgufArchitecture<M extends Module = Module> {
  /** The values of "general.architecture" that are read. */
  readonly names: readonly string[];
  /** Reads and checks the sizes; then makes models of them. */
  read(metadata: GgufMetadata, file: GgufFile): ((options: ModelOptions) => M) | Promise<(options: ModelOptions) => M>;
  /** Where a model's parameter is. */
  parameter(name: string): GgufParameter;
  /** Tensors of the file that a model has no use for. */
  readonly ignored: readonly string[];
  /** Whether a model is of this kind. */
  owns(model: Module): model is M;
  /** The architecture and sizes that a model is written with. Throws ERR_ARGUMENT for what files have no place for. */
  write(model: M): GgufOutput;
}

export interface GgufOutput {
  architecture: string;
  /** Keys without the architecture's name before them. */
  metadata: ReadonlyMap<string, GgufInputValue>;
  /** Tensors beside the parameters. */
  tensors?: readonly { name: string; values: Float32Array }[];
  /** The values of a parameter as the file has them; as they are unless given. */
  values?: (parameter: string, values: Float32Array) => Float32Array;
}

/** [rows, columns] → [columns, rows] */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) out[column * rows + row] = values[row * columns + column]!;
  return out;
}

/** A file of which some matrices are read the other way round. */
export function transposing(file: WeightFile, isTransposed: (name: string) => boolean): WeightFile {
  const tensors = new Map(
    [...file.tensors].map(([name, entry]) => [
      name,
      isTransposed(name) ? { ...entry, shape: [...entry.shape].reverse() } : entry,
    ]),
  );
  return {
    path: file.path,
    tensors,
    async readFloats(name) {
      const values = await file.readFloats(name);
      if (!isTransposed(name)) return values;
      const [columns, rows] = tensors.get(name)!.shape as [number, number];
      return transposed(values, rows, columns);
    },
    close: () => file.close(),
    [Symbol.asyncDispose]: () => file.close(),
  };
}
