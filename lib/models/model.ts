import { type Device, device as deviceOf } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { DropoutSeeds } from "../nn/dropout.js";
import type { Embedding } from "../nn/embedding.js";
import { Initializer } from "../nn/init.js";
import { Module } from "../nn/module.js";
import { checkObject } from "../ops/check.js";
import { checkRounding } from "../ops/precision.js";

export interface ModelOptions {
  /** Seed of the initial parameters and of dropout. @default 0 */
  seed?: number;
  /** Device that holds the model: "cpu", "cuda:0", …, or "auto". @default "auto" */
  device?: Device | string;
  /** Dtype of the parameters, and so of everything. For training, see `Model.dtype`. @default "f32" */
  dtype?: FloatDType;
}

/** What every model has beside its layers: where it is, what it computes in, and what its dropout draws from. */
export abstract class Model extends Module {
  /** Where dropout draws from; the trainer sets its step. */
  readonly dropoutSeeds: DropoutSeeds;
  #activations: FloatDType = "f32";

  /** `name` is what errors call the model. */
  constructor(
    protected readonly name: string,
    options: ModelOptions,
  ) {
    super();
    checkObject(name, "options", options);
    checkRounding(name, "f32", options.dtype ?? "f32");
    this.dropoutSeeds = new DropoutSeeds(options.seed ?? 0);
  }

  /** Where tokens become vectors: the other parameters are where it is, and of its dtype. */
  protected abstract get tokens(): Embedding;

  get device(): Device {
    return this.tokens.device;
  }

  /**
   * Of the activations and logits. Beside parameters of f32 it may be set to bf16 or f16: matrix products then take
   * rounded weights, while the parameters and their gradients stay f32 (Micikevicius et al. 2018). Other parameters are
   * of one dtype with the activations.
   */
  get dtype(): FloatDType {
    const parameters = this.tokens.weight.dtype;
    return parameters === "f32" ? this.#activations : parameters;
  }

  set dtype(dtype: FloatDType) {
    checkRounding(this.name, this.tokens.weight.dtype, dtype);
    this.#activations = dtype;
  }
}

/** What draws a model's first parameters. */
export function initializerOf({ seed = 0, device, dtype = "f32" }: ModelOptions): Initializer {
  return new Initializer(seed, deviceOf(device), dtype);
}
