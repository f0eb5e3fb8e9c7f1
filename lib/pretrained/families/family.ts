import type { WeightFile } from "../../formats/weights.js";
import type { ModelOptions } from "../../models/model.js";
import type { Module } from "../../nn/module.js";
import type { Shape } from "../../shape.js";
import type { LoadWeightsOptions } from "../load-weights.js";

/** How models of one kind come out of a folder in Hugging Face's format. */
export interface Family<M extends Module = Module> {
  /** What config.json may call them, under "model_type". */
  readonly types: readonly string[];
  /** Reads a config.json and checks it, with ERR_FORMAT, ERR_SHAPE or ERR_ARGUMENT. */
  fromConfig(json: unknown): Blueprint<M>;
  /** How the file's tensors differ from the model's parameters. */
  weights?(model: M, file: WeightFile): LoadWeightsOptions;
  /** How its models are saved; null where they are not yet. */
  readonly saving?: FamilySaving<M> | null;
}

/** What a config.json says of a model. */
export interface Blueprint<M extends Module = Module> {
  /** Makes it, with the parts that the file has where some are optional. */
  make(options: ModelOptions, file: WeightFile): M;
  /**
   * Some of the file's tensors with the shapes they must have, by which sizes that are wrong are found before memory is
   * asked for: the last layer's, and the largest.
   */
  sizes(file: WeightFile): [string, Shape][];
}

/** How models of one kind go into a folder in Hugging Face's format. */
export interface FamilySaving<M extends Module = Module> {
  /** Whether a model is of the family. */
  owns(model: Module): model is M;
  /** The config.json. Throws ERR_ARGUMENT for a model that Hugging Face's tools have no type for. */
  toConfig(model: M): Record<string, unknown>;
  /** What the file calls a parameter; the parameter's own name unless given. */
  nameInFile?(model: M, parameter: string): string;
  /** The tensors that the file has for a parameter, whose numbers are in turn the parameter's; that one unless given. */
  tensors?(model: M, parameter: string, shape: Shape): readonly { name: string; shape: Shape }[];
  /** A parameter's values as the file has them; as they are unless given. */
  values?(model: M, parameter: string, values: Float32Array): Float32Array;
}
