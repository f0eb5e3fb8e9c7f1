import { HeedError } from "../util/errors.js";
import { broadcastShapes, formatShape, sameShape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkFloat, checkNumber, checkObject, checkShapeIs } from "./check.js";
import { unfusedAttention } from "./unfused-attention.js";

/** Options of `biasedAttention`. */
export interface BiasedAttentionOptions {
  /** Factor of the scores. @default 1/√D */
  scale?: number;
  /** Probability with which an attention weight is dropped. @default 0 */
  dropout?: number;
  /** Seed of the dropout. @default 0 */
  seed?: number;
}

/**
 * Returns softmax(q·kᵀ·scale + bias)·v, with a gradient for the bias, for models that learn positions as biases (T5).
 *
 * q [B, Tq, H, D]; k, v [B, Tk, H, D]; bias of a shape that broadcasts to [B, H, Tq, Tk] → [B, Tq, H, D]. A bias of −∞
 * hides a key; the result of a query that sees no key is 0. Hidden keys and values must still be finite.
 *
 * `attention` works in tiles and takes no such bias. This operation consists of products and a softmax: the scores of
 * every query and key exist, also for the backward pass, so that memory grows with B·H·Tq·Tk.
 *
 * @example
 * const q = randn([1, 6, 2, 16], { seed: 1 });
 * const bias = parameter(zeros([2, 6, 6]));
 * const y = biasedAttention(q, q, q, bias, { scale: 1 });
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_RANGE if an option is out of range.
 * @see Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", §2.1,
 *   arXiv:1910.10683.
 */
export function biasedAttention(
  q: FloatTensor,
  k: FloatTensor,
  v: FloatTensor,
  bias: FloatTensor,
  options: BiasedAttentionOptions = {},
): FloatTensor {
  const op = "biasedAttention";
  checkObject(op, "options", options);
  checkFloat(op, "q", q);
  checkShapeIs(op, "q", q, [-1, -1, -1, -1]);
  const [batch, queries, heads, size] = q.shape as [number, number, number, number];
  const { scale = 1 / Math.sqrt(size), dropout = 0, seed = 0 } = options;
  checkNumber(op, "scale", scale);
  checkFloat(op, "k", k, q);
  checkShapeIs(op, "k", k, [batch, -1, heads, size]);
  checkFloat(op, "v", v, q);
  checkShapeIs(op, "v", v, k.shape);
  checkFloat(op, "bias", bias, q);
  const scores = [batch, heads, queries, k.shape[1]!];
  if (!sameShape(broadcastShapes(op, bias.shape, scores), scores))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected bias to broadcast to ${formatShape(scores)}, got ${formatShape(bias.shape)}`,
    );
  return unfusedAttention(q, k, v, { scale, dropout, seed, bias });
}
