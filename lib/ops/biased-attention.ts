import { HeedError } from "../errors.js";
import { broadcastShapes, formatShape, sameShape } from "../shape.js";
import type { FloatTensor } from "../tensor.js";
import { checkFloat, checkNumber, checkObject, checkShapeIs } from "./check.js";
import { unfusedAttention } from "./unfused-attention.js";

export interface BiasedAttentionOptions {
  /** Factor of the scores; 1/√D unless given. */
  scale?: number;
  /** Probability of dropping an attention weight; 0 unless given. */
  dropout?: number;
  /** Of the dropout. */
  seed?: number;
}

/**
 * softmax(q·kᵀ·scale + bias)·v with a gradient of the bias, for positions that are learned as biases (Raffel et al.
 * 2020): q [B, Tq, H, D], k and v [B, Tk, H, D], bias of a shape that stretches to [B, H, Tq, Tk] → [B, Tq, H, D]. A bias
 * of −∞ hides a key; a query that sees none gives zeros.
 *
 * `attention`, which is tiled, takes no such bias. This is made of products and a softmax: the scores of every query and
 * key exist, forward and for the backward pass, so that memory grows with B·H·Tq·Tk. Keys that are hidden must hold
 * numbers all the same.
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
      `${op}: expected bias to stretch to ${formatShape(scores)}, got ${formatShape(bias.shape)}`,
    );
  return unfusedAttention(q, k, v, { scale, dropout, seed, bias });
}
