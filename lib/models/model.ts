import { type Device, device as deviceOf } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { DropoutSeeds } from "../nn/dropout.js";
import type { Embedding } from "../nn/embedding.js";
import { Initializer } from "../nn/init.js";
import { Module } from "../nn/module.js";
import { checkObject } from "../ops/check.js";
import { checkRounding } from "../ops/precision.js";

/** Options of every model's constructor. */
export interface ModelOptions {
  /** Seed of the initial parameters and of dropout. @default 0 */
  seed?: number;
  /** Device that holds the model: "cpu", "cuda:0", …, or "auto". @default "auto" */
  device?: Device | string;
  /** Dtype of parameters, activations and logits. To train in bf16, set `Model.dtype` instead. @default "f32" */
  dtype?: FloatDType;
}

/**
 * Base class of all models: a module with a device, a dtype of its activations and the seeds of its dropout.
 *
 * @example
 * const model: Model = gpt;
 * model.dtype = "bf16"; // activations; the parameters stay f32
 * model.parameterCount(); // 11200
 */
export abstract class Model extends Module {
  /** Source of dropout's seeds; the trainer sets its step. */
  readonly dropoutSeeds: DropoutSeeds;
  #activations: FloatDType = "f32";

  /** @param name the model's name in error messages */
  constructor(
    protected readonly name: string,
    options: ModelOptions,
  ) {
    super();
    checkObject(name, "options", options);
    checkRounding(name, "f32", options.dtype ?? "f32");
    this.dropoutSeeds = new DropoutSeeds(options.seed ?? 0);
  }

  /** Embedding of the tokens, whose device and dtype are those of all parameters. */
  abstract get tokens(): Embedding;

  /** Device that holds the model. */
  get device(): Device {
    return this.tokens.device;
  }

  /**
   * Dtype of the activations and logits. If the parameters are f32, it may be set to bf16 or f16: matrix products then
   * use rounded weights, while the parameters and their gradients stay f32 (Micikevicius et al. 2018). If the
   * parameters have another dtype, the activations have that dtype too.
   *
   * @throws ERR_DTYPE if the parameters do not allow the new dtype.
   * @see https://arxiv.org/abs/1710.03740
   */
  get dtype(): FloatDType {
    const parameters = this.tokens.weight.modelDType;
    return parameters === "f32" ? this.#activations : parameters;
  }

  set dtype(dtype: FloatDType) {
    checkRounding(this.name, this.tokens.weight.modelDType, dtype);
    this.#activations = dtype;
  }
}

/** Returns the initializer of a model's parameters. */
export function initializerOf({ seed = 0, device, dtype = "f32" }: ModelOptions): Initializer {
  return new Initializer(seed, deviceOf(device), dtype);
}
