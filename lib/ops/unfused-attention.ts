import { scope } from "../core/scope.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { type AttentionOptions, type BlockMask, checkAttention } from "./attention.js";
import { add, div, greater, less, mul, sub } from "./binary.js";
import { dropout as drop } from "./dropout.js";
import { matmul } from "./matmul.js";
import { softmax } from "./softmax.js";
import { abs, log, tanh } from "./unary.js";
import { narrow, reshape, transpose } from "./views.js";

/** Options of `unfusedAttention`. */
export interface UnfusedAttentionOptions extends Omit<AttentionOptions, "pages" | "relative"> {
  /**
   * Bias that is added to the scores and gets a gradient, of a shape that broadcasts to [B, H, Tq, Tk]. −∞ hides a key.
   */
  bias?: FloatTensor | null;
  /**
   * Receives the scores [B, H, Tq, Tk] that the softmax takes, in which hidden keys are −∞, and returns those to use
   * instead.
   */
  onScores?: (scores: FloatTensor) => FloatTensor;
  /** Receives the attention weights [B, H, Tq, Tk] before dropout and returns those to use instead. */
  onPattern?: (pattern: FloatTensor) => FloatTensor;
}

/**
 * Returns what `attention` returns, but computes it with products and a softmax, so that scores and weights can be
 * observed and replaced, and a learned bias can be added. q [B, Tq, H, D]; k, v [B, Tk, Hkv, D] → [B, Tq, H, D].
 *
 * Memory grows with B·H·Tq·Tk. Unlike in `attention`, keys and values that no query sees must be finite.
 *
 * @throws the errors of `attention`.
 */
export function unfusedAttention(
  q: FloatTensor,
  k: FloatTensor,
  v: FloatTensor,
  options: UnfusedAttentionOptions = {},
): FloatTensor {
  checkAttention(q, k, v, options);
  const { scale = 1 / Math.sqrt(q.shape[3]!), dropout = 0, seed = 0 } = options;
  const { onScores = same, onPattern = same } = options;
  return scope(() => {
    const scaled = scale === 1 ? q : mul(q, scale);
    const keys = transpose(repeatHeads(k, q), [0, 2, 3, 1]); // [B, H, D, Tk]
    const values = transpose(repeatHeads(v, q), [0, 2, 1, 3]); // [B, H, Tk, D]
    const products = matmul(transpose(scaled, [0, 2, 1, 3]), keys); // [B, H, Tq, Tk]
    const pattern = onPattern(softmax(onScores(scoresOf(products, q, k, options))));
    return transpose(matmul(drop(pattern, dropout, seed), values), [0, 2, 1, 3]); // [B, Tq, H, D]
  });
}

function same(x: FloatTensor): FloatTensor {
  return x;
}

/** Repeats each head of keys or values [B, Tk, Hkv, D] for the query heads that share it: [B, Tk, H, D]. */
function repeatHeads(x: FloatTensor, { shape }: FloatTensor): FloatTensor {
  const [batch, keys, kvHeads, size] = x.shape as [number, number, number, number];
  const group = shape[2]! / kvHeads;
  if (group === 1) return x;
  const ones = tensor(new Float32Array(group).fill(1), [group, 1], { device: x.device, dtype: x.dtype });
  return reshape(mul(reshape(x, [batch, keys, kvHeads, 1, size]), ones), [batch, keys, kvHeads * group, size]);
}

/**
 * Returns the scores from the products q·kᵀ [B, H, Tq, Tk]: capped, with ALiBi's slopes subtracted, the bias added, and
 * −∞ for hidden keys.
 */
function scoresOf(
  products: FloatTensor,
  q: FloatTensor,
  k: FloatTensor,
  options: UnfusedAttentionOptions,
): FloatTensor {
  const { softcap = 0, slopes = null, bias = null } = options;
  const { dtype } = products;
  let scores = softcap > 0 ? mul(tanh(div(products, softcap)), softcap) : products;
  const positions = positionsOf(q, k, options); // [B or 1, 1, Tq, 1]
  const keys = counting(k.shape[1]!, k); // [Tk]
  if (slopes) scores = sub(scores, mul(abs(sub(positions, keys)), reshape(slopes, [-1, 1, 1])).to(dtype));
  if (bias) scores = add(scores, bias);
  const conditions = [...seenBy(positions, keys, options), ...inBlocks(positions, keys, options.blocks ?? null)];
  if (conditions.length === 0) return scores;
  const visible = conditions.reduce((all, next) => mul(all, next));
  return add(scores, log(visible).to(dtype));
}

/** Returns 0, 1, …, n − 1 as f32 [n]. */
function counting(n: number, { device }: FloatTensor): FloatTensor {
  return tensor(
    Float32Array.from({ length: n }, (_, i) => i),
    [n],
    { device },
  );
}

/** Converts i32 [B] to f32 [B, 1, 1, 1]. */
function perSequence(x: IntTensor): FloatTensor {
  return reshape(x.to("f32"), [-1, 1, 1, 1]);
}

/** Returns the position of each query among the keys, f32 [B or 1, 1, Tq, 1]. */
function positionsOf(q: FloatTensor, k: FloatTensor, { keyLengths, queryStarts }: AttentionOptions): FloatTensor {
  const queries = q.shape[1]!;
  const fromFirst = reshape(counting(queries, q), [1, 1, queries, 1]);
  if (queryStarts) return add(fromFirst, perSequence(queryStarts));
  if (keyLengths) return add(fromFirst, sub(perSequence(keyLengths), queries));
  return add(fromFirst, k.shape[1]! - queries);
}

/** Returns a tensor for each option except blocks: 1 where a query sees a key, and 0 elsewhere. */
function seenBy(positions: FloatTensor, keys: FloatTensor, options: AttentionOptions): FloatTensor[] {
  const { causal = false, window = 0, keyLengths = null, keyRanges = null } = options;
  const conditions: FloatTensor[] = [];
  if (keyLengths) conditions.push(less(keys, perSequence(keyLengths)));
  if (causal) conditions.push(less(keys, add(positions, 1)));
  if (window > 0) conditions.push(greater(keys, sub(positions, window)));
  if (window > 0 && !causal) conditions.push(less(keys, add(positions, window)));
  if (keyRanges) {
    const bound = (side: 0 | 1): FloatTensor => {
      const [batch, queries] = keyRanges.shape as [number, number, number];
      return reshape(narrow(keyRanges, 2, side, 1).to("f32"), [batch, 1, queries, 1]);
    };
    conditions.push(greater(keys, sub(bound(0), 1)), less(keys, bound(1)));
  }
  return conditions;
}

/**
 * Returns 1 where a query sees a key by the block mask and 0 elsewhere, [B or 1, H or 1, Tq, Tk]. One product picks
 * each query's row of the mask, another one each key's column.
 */
function inBlocks(positions: FloatTensor, keys: FloatTensor, blocks: BlockMask | null): FloatTensor[] {
  if (!blocks) return [];
  const { mask, size } = blocks;
  const [rows, columns] = mask.shape.slice(2) as [number, number];
  /** Returns 1 where a position [..., n, 1] is in a block and 0 elsewhere, [..., n, count]. */
  const within = (positions: FloatTensor, count: number): FloatTensor => {
    const first = mul(counting(count, positions), size);
    return mul(greater(positions, sub(first, 1)), less(positions, add(first, size)));
  };
  const seen = greater(mask.to("f32"), 0); // [B or 1, H or 1, rows, columns]
  const ofKeys = transpose(within(reshape(keys, [-1, 1]), columns)); // [columns, Tk]
  return [matmul(within(positions, rows), matmul(seen, ofKeys))];
}
