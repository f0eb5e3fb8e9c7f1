import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import type { DropoutSeeds } from "../nn/dropout.js";
import type { Module } from "../nn/module.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";

/** Model that `Trainer` can train: one that predicts the next token, such as `GPT` or `Llama`. */
export interface TrainableModel extends Module {
  /** Configuration, of which training needs the longest sequence and the size of the vocabulary. */
  readonly config: { readonly contextLength: number; readonly vocabularySize: number };
  /** Device that holds the model. */
  readonly device: Device;
  /** Dtype of the activations; it can be set if the parameters are f32. */
  dtype: FloatDType;
  /**
   * True if the backward pass computes activations again instead of keeping them; absent if the model cannot do that.
   */
  gradientCheckpointing?: boolean;
  /** Source of the seeds of dropout masks. */
  readonly dropoutSeeds: DropoutSeeds;
  /**
   * Returns the mean cross-entropy, in nats per token, of predicting targets i32 [B, T] from ids i32 [B, T].
   * `documents` are the lengths of the documents that each sequence is packed from.
   */
  loss(
    ids: IntTensor,
    targets: IntTensor,
    options?: CrossEntropyOptions & { documents?: readonly ArrayLike<number>[] | null },
  ): FloatTensor;
}
