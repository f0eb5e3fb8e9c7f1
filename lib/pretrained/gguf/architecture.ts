import type { GgufWeights } from "../../formats/gguf-parts.js";
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
  read(
    metadata: GgufMetadata,
    file: GgufWeights,
  ): ((options: ModelOptions) => M) | Promise<(options: ModelOptions) => M>;
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
  /** The values of a parameter that is not transposed as the file has them; as they are unless given. */
  values?: (parameter: string, values: Float32Array) => Float32Array;
}
