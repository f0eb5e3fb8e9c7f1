import { scope } from "../scope.js";
import { tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { type AttentionOptions, type BlockMask, checkAttention } from "./attention.js";
import { add, div, greater, less, mul, sub } from "./binary.js";
import { dropout as drop } from "./dropout.js";
import { matmul } from "./matmul.js";
import { softmax } from "./softmax.js";
import { abs, log, tanh } from "./unary.js";
import { narrow, reshape, transpose } from "./views.js";

export interface UnfusedAttentionOptions extends AttentionOptions {
  /** Added to the scores and given a gradient; of a shape that stretches to [B, H, Tq, Tk]. −∞ hides a key. */
  bias?: FloatTensor | null;
  /** Gets the scores [B, H, Tq, Tk] as the softmax takes them, hidden keys −∞. What it returns goes on in their place. */
  onScores?: (scores: FloatTensor) => FloatTensor;
  /** Gets the attention weights [B, H, Tq, Tk] before dropout. What it returns goes on in their place. */
  onPattern?: (pattern: FloatTensor) => FloatTensor;
}

/**
 * What `attention` computes, made of products and a softmax, so that scores and weights can be seen, replaced and raised
 * by a bias that is learned. q [B, Tq, H, D], k and v [B, Tk, Hkv, D] → [B, Tq, H, D].
 *
 * Memory grows with B·H·Tq·Tk. Unlike with `attention`, keys and values that no query sees must be finite.
 *
 * @throws what `attention` throws
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

/** Keys or values [B, Tk, Hkv, D], each head as often as queries share it: [B, Tk, H, D]. */
function repeatHeads(x: FloatTensor, { shape }: FloatTensor): FloatTensor {
  const [batch, keys, kvHeads, size] = x.shape as [number, number, number, number];
  const group = shape[2]! / kvHeads;
  if (group === 1) return x;
  const ones = tensor(new Float32Array(group).fill(1), [group, 1], { device: x.device, dtype: x.dtype });
  return reshape(mul(reshape(x, [batch, keys, kvHeads, 1, size]), ones), [batch, keys, kvHeads * group, size]);
}

/** The scores of products q·kᵀ [B, H, Tq, Tk]: capped, raised by ALiBi's slopes and the bias, and −∞ for hidden keys. */
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

/** 0, 1, …, n − 1, f32 [n] */
function counting(n: number, { device }: FloatTensor): FloatTensor {
  return tensor(
    Float32Array.from({ length: n }, (_, i) => i),
    [n],
    { device },
  );
}

/** i32 [B] → f32 [B, 1, 1, 1] */
function perSequence(x: IntTensor): FloatTensor {
  return reshape(x.to("f32"), [-1, 1, 1, 1]);
}

/** Returns the place of each query among the keys, f32 [B or 1, 1, Tq, 1]. */
function positionsOf(q: FloatTensor, k: FloatTensor, { keyLengths, queryStarts }: AttentionOptions): FloatTensor {
  const queries = q.shape[1]!;
  const fromFirst = reshape(counting(queries, q), [1, 1, queries, 1]);
  if (queryStarts) return add(fromFirst, perSequence(queryStarts));
  if (keyLengths) return add(fromFirst, sub(perSequence(keyLengths), queries));
  return add(fromFirst, k.shape[1]! - queries);
}

/** 1 where a query sees a key and 0 where it does not, by each of the options but blocks. */
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

/** The same for blocks, [B or 1, H or 1, Tq, Tk]: a product picks each query's row of the mask, another each key's column. */
function inBlocks(positions: FloatTensor, keys: FloatTensor, blocks: BlockMask | null): FloatTensor[] {
  if (!blocks) return [];
  const { mask, size } = blocks;
  const [rows, columns] = mask.shape.slice(2) as [number, number];
  /** 1 where a position [..., n, 1] is in a block [count]: [..., n, count] */
  const within = (positions: FloatTensor, count: number): FloatTensor => {
    const first = mul(counting(count, positions), size);
    return mul(greater(positions, sub(first, 1)), less(positions, add(first, size)));
  };
  const seen = greater(mask.to("f32"), 0); // [B or 1, H or 1, rows, columns]
  const ofKeys = transpose(within(reshape(keys, [-1, 1]), columns)); // [columns, Tk]
  return [matmul(within(positions, rows), matmul(seen, ofKeys))];
}
