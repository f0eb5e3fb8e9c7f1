import type { WeightFile } from "../../formats/weights.js";
import type { ModelOptions } from "../../models/model.js";
import type { Module } from "../../nn/module.js";
import type { Shape } from "../../core/shape.js";
import type { LoadWeightsOptions } from "../load-weights.js";

/** Rules by which models of one family are loaded from folders in Hugging Face's format and saved in them. */
export interface Family<M extends Module = Module> {
  /** Values of "model_type" in config.json that belong to the family. */
  readonly types: readonly string[];
  /**
   * Reads and checks the content of a config.json.
   *
   * @throws ERR_FORMAT, ERR_SHAPE or ERR_ARGUMENT if it is invalid.
   */
  fromConfig(json: unknown): Blueprint<M>;
  /** Returns how the file's tensors differ from the model's parameters. @default they do not differ */
  weights?(model: M, file: WeightFile): LoadWeightsOptions;
  /** Rules by which the models are saved, or null if heed cannot save them. @default null */
  readonly saving?: FamilySaving<M> | null;
}

/** A model as a config.json describes it. */
export interface Blueprint<M extends Module = Module> {
  /** Makes the model. If some parts are optional, it has those that the file has. */
  make(options: ModelOptions, file: WeightFile): M;
  /**
   * Returns the names of some tensors in the file with the shapes that they must have: the largest and those of the
   * last layer. They reveal wrong sizes before memory is allocated.
   */
  sizes(file: WeightFile): [string, Shape][];
}

/** Rules by which models of one family are saved in folders in Hugging Face's format. */
export interface FamilySaving<M extends Module = Module> {
  /** Returns true if a model belongs to the family. */
  owns(model: Module): model is M;
  /**
   * Returns the content of config.json.
   *
   * @throws ERR_ARGUMENT if Hugging Face's tools have no model type for the model.
   */
  toConfig(model: M): Record<string, unknown>;
  /** Returns the name of a parameter in the file. @default the parameter's own name */
  nameInFile?(model: M, parameter: string): string;
  /**
   * Returns the tensors that the file has for a parameter. Their numbers, one after another, are the parameter's
   * numbers.
   * @default one tensor
   */
  tensors?(model: M, parameter: string, shape: Shape): readonly { name: string; shape: Shape }[];
  /**
   * Returns tensors of the file that repeat a parameter, for readers that expect it twice: the parameter of each, by the
   * tensor's name.
   * @default none
   */
  copies?(model: M): Readonly<Record<string, string>>;
  /**
   * Converts the values of a parameter to those in the file. Only the order of rows may change, the same for rows of any
   * length.
   * @default the same values
   */
  values?(model: M, parameter: string, values: Float32Array): Float32Array;
  /**
   * Returns the name that a linear layer has in Hugging Face's transformers, by which PEFT's files call it. A family
   * without this rule has other layers there.
   */
  layerInTransformers?(layer: string, model: M): string;
}
