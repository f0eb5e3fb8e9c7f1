import { HeedError } from "../util/errors.js";
import { checkInteger } from "../ops/check.js";
import { narrow, reshape } from "../ops/views.js";
import type { FloatTensor } from "../core/tensor.js";

/** Numbers and sizes of the heads of an attention module. */
export interface HeadsConfig {
  /** C, the width of input and output. */
  width: number;
  /** H, the number of heads of the queries. */
  heads: number;
  /**
   * Number of heads of keys and values, a divisor of `heads`: each serves a group of query heads (Ainslie et al. 2023).
   * @default heads
   */
  kvHeads?: number;
  /** D, the size of a head. @default width / heads */
  headSize?: number;
}

/**
 * Returns D, the size of a head.
 *
 * @throws ERR_RANGE if a size is not an integer of at least 1.
 * @throws ERR_SHAPE if `heads` does not divide `width`, or `kvHeads` does not divide `heads`.
 */
export function headSizeOf(op: string, { width, heads, kvHeads = heads, headSize }: HeadsConfig): number {
  checkInteger(op, "width", width, 1);
  checkInteger(op, "heads", heads, 1);
  checkInteger(op, "kvHeads", kvHeads, 1);
  if (heads % kvHeads !== 0)
    throw new HeedError("ERR_SHAPE", `${op}: expected heads to be a multiple of ${kvHeads} kvHeads, got ${heads}`);
  if (headSize === undefined && width % heads !== 0)
    throw new HeedError("ERR_SHAPE", `${op}: expected width to be a multiple of ${heads} heads, got ${width}`);
  const size = headSize ?? width / heads;
  checkInteger(op, "headSize", size, 1);
  return size;
}

/** Splits the last dimension into heads: [B, T, H·D] → [B, T, H, D]. */
export function splitHeads(x: FloatTensor, heads: number): FloatTensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  return reshape(x, [batch, tokens, heads, width / heads]);
}

/**
 * Splits a projection that holds heads of several kinds, such as keys then values: [B, T, ΣH·D] → one view
 * [B, T, H, D] for each count H in `counts`.
 */
export function cutHeads<const Counts extends readonly number[]>(
  x: FloatTensor,
  counts: Counts,
): { [K in keyof Counts]: FloatTensor } {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const all = splitHeads(x, total);
  let end = 0;
  return counts.map((count) => narrow(all, 2, (end += count) - count, count)) as { [K in keyof Counts]: FloatTensor };
}

/** Joins the heads again: [B, T, H, D] → [B, T, H·D]. */
export function joinHeads(x: FloatTensor): FloatTensor {
  const [batch, tokens, heads, size] = x.shape as [number, number, number, number];
  return reshape(x, [batch, tokens, heads * size]);
}
