import { noGrad } from "../core/autograd.js";
import type { Device } from "../core/device.js";
import type { PassOptions } from "../models/pass.js";
import type { KvCache } from "../nn/kv-cache.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor, Tensor } from "../core/tensor.js";

/** A model that predicts the next token, as generation and scoring use it. `GPT` is one. */
export interface CausalModel {
  readonly config: {
    /** Maximum number of tokens that the model sees at once. */
    readonly contextLength: number;
    readonly vocabularySize: number;
  };
  readonly device: Device;
  /**
   * True if a pass of one token per sequence, with a cache, needs no data from the host, so that it can be recorded and
   * run again.
   *
   * @default false
   */
  readonly recordable?: boolean;
  /** True if dropout is on. */
  readonly training: boolean;
  /** Turns dropout on. */
  train(): unknown;
  /** Turns dropout off. */
  eval(): unknown;
  /**
   * Returns the logits of the next token after each position: ids i32 [B, T] → logits [B, T, V], or [B, V] with
   * `lastOnly`.
   */
  forward(ids: IntTensor, options?: PassOptions): FloatTensor;
  /**
   * Returns an empty cache for `batch` sequences of up to `length` tokens each; `length` is the context length by
   * default.
   */
  createCache(batch: number, length?: number): KvCache;
}

/**
 * @internal Runs `body` for inference: nothing is recorded for gradients, dropout is off, and every tensor it creates
 * is disposed except its result, which the caller must dispose. On return the model is in its previous mode, so a
 * training loop may run in between.
 */
export function infer<T extends Tensor>(model: CausalModel, body: () => T): T {
  const { training } = model;
  if (training) model.eval();
  try {
    return keep(noGrad(() => scope(body)));
  } finally {
    if (training) model.train();
  }
}
