import type { GgufWeights } from "../../formats/gguf-parts.js";
import type { GgufInputValue } from "../../formats/write-gguf.js";
import type { CausalDecoder } from "../../models/causal-decoder.js";
import type { ModelOptions } from "../../models/model.js";
import type { Module } from "../../nn/module.js";
import type { GgufMetadata } from "./metadata.js";

/** A parameter of a model as a GGUF file stores it. */
export interface GgufParameter {
  name: string;
  /** True if the parameter is a matrix [in, out] that the file stores as [out, in]. @default false */
  transposed?: boolean;
}

/** Rules by which models of one kind are read from GGUF files and written to them. */
export interface GgufArchitecture<M extends CausalDecoder = CausalDecoder> {
  /** Values of "general.architecture" that this architecture reads. */
  readonly names: readonly string[];
  /** Reads and checks the sizes in the metadata. Returns a function that makes models of these sizes. */
  read(
    metadata: GgufMetadata,
    file: GgufWeights,
  ): ((options: ModelOptions) => M) | Promise<(options: ModelOptions) => M>;
  /** Returns the place of a model's parameter in the file. */
  parameter(name: string): GgufParameter;
  /** Names of tensors in the file that a model does not use. */
  readonly ignored: readonly string[];
  /** Returns true if a model is of this kind. */
  owns(model: Module): model is M;
  /**
   * Returns the architecture and the sizes with which a model is written.
   *
   * @throws ERR_ARGUMENT if a GGUF file cannot express an option of the model.
   */
  write(model: M): GgufOutput;
}

/** Content of a GGUF file besides the parameters. */
export interface GgufOutput {
  architecture: string;
  /** Metadata by key, without the prefix of the architecture's name. */
  metadata: ReadonlyMap<string, GgufInputValue>;
  /** Tensors in addition to the parameters. */
  tensors?: readonly { name: string; values: Float32Array }[];
  /** Converts the values of a parameter that is not transposed to those in the file. @default the same values */
  values?: (parameter: string, values: Float32Array) => Float32Array;
}
