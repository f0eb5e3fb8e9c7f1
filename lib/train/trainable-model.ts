import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import type { DropoutSeeds } from "../nn/dropout.js";
import type { Module } from "../nn/module.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import type { FloatTensor, IntTensor } from "../tensor.js";

/** What training needs of a model that predicts the next token; GPT and Llama are such. */
export interface TrainableModel extends Module {
  readonly config: { readonly contextLength: number; readonly vocabularySize: number };
  readonly device: Device;
  /** Of the activations; it can be set where parameters are f32. */
  dtype: FloatDType;
  /** Whether it keeps little for the backward pass and computes the rest again; absent where it cannot. */
  gradientCheckpointing?: boolean;
  /** Where dropout draws from. */
  readonly dropoutSeeds: DropoutSeeds;
  /** Mean cross-entropy in nats per token; `documents` are the lengths of those that each sequence is packed from. */
  loss(
    ids: IntTensor,
    targets: IntTensor,
    options?: CrossEntropyOptions & { documents?: readonly ArrayLike<number>[] | null },
  ): FloatTensor;
}
