import { noGrad } from "../autograd.js";
import type { Device } from "../device.js";
import type { PassOptions } from "../models/pass.js";
import type { KvCache } from "../nn/kv-cache.js";
import { keep, scope } from "../scope.js";
import type { FloatTensor, IntTensor, Tensor } from "../tensor.js";

/** What generation and scoring need of a model that predicts the next token; `GPT` is one. */
export interface CausalModel {
  readonly config: {
    /** The most tokens the model sees at once. */
    readonly contextLength: number;
    readonly vocabularySize: number;
  };
  readonly device: Device;
  /** Whether a pass of one token a sequence, with a cache, takes nothing from the host, so that it can be recorded. */
  readonly recordable?: boolean;
  /** Whether dropout is on. */
  readonly training: boolean;
  train(): unknown;
  eval(): unknown;
  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options?: PassOptions): FloatTensor;
  /** Returns an empty cache for `batch` sequences of up to `length` tokens, by default as many as the context has. */
  createCache(batch: number, length?: number): KvCache;
}

/**
 * @internal Runs `body` for inference: not recorded, dropout off, everything it made disposed but its result, which is
 * the caller's to dispose. The model's mode is its own again on return, so a training loop may run in between.
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
