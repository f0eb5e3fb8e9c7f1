import type { AttentionOptions } from "../ops/attention.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";

/** Keys and values of one attention layer, [B, S, Hkv, D] each. */
export interface LayerCache {
  readonly keys: FloatTensor;
  readonly values: FloatTensor;
}

/**
 * Keys and values of earlier tokens, as a model's forward pass uses them. A `KvCache` is a batch of sequences that get
 * the same number of tokens in each pass; a `PagedPass` is one pass over any sequences that lie in pages.
 */
export interface AttentionCache {
  /** B of the ids of a pass. */
  readonly batch: number;
  /** Starts a pass of `tokens` positions. In sequence b, counts[b] of them are real; without `counts`, all are. */
  begin(tokens: number, counts?: ArrayLike<number>): void;
  /** Ends the pass. */
  advance(): void;
  /** Places of the pass's tokens, for `rotary`. */
  readonly places: { starts: IntTensor } | { positions: IntTensor };
  /** Returns the position of each token of the pass, i32 [B, T], but none above `last`. */
  positions(tokens: number, last: number): IntTensor;
  /**
   * Adds a layer's new keys and values [B, T, Hkv, D] to the cache, and returns the attention of queries q [B, T, H, D]
   * to all keys of their sequences, [B, T, H, D]. `masks` must not say where queries and keys are.
   */
  attend(layer: number, q: FloatTensor, keys: FloatTensor, values: FloatTensor, masks: AttentionOptions): FloatTensor;
  /** Adds a layer's new keys and values to the cache, and returns all of them up to the longest sequence's end. */
  written(layer: number, keys: FloatTensor, values: FloatTensor): LayerCache;
  /** Masks that say where the queries and keys of the pass are. */
  readonly masks: Pick<AttentionOptions, "keyLengths" | "queryStarts">;
}
