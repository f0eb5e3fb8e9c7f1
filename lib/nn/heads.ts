import { HeedError } from "../errors.js";
import { checkInteger } from "../ops/check.js";
import { narrow, reshape } from "../ops/views.js";
import type { FloatTensor } from "../tensor.js";

export interface HeadsConfig {
  /** C */
  width: number;
  /** H, of the queries. */
  heads: number;
  /** Heads of keys and values, a divisor of heads: each serves a group of them (Ainslie et al. 2023). @default heads */
  kvHeads?: number;
  /** D. @default width / heads */
  headSize?: number;
}

/** D, the size of a head. Throws ERR_RANGE or ERR_SHAPE where the heads do not divide the width, or each other. */
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

/** [B, T, H·D] → [B, T, H, D] */
export function splitHeads(x: FloatTensor, heads: number): FloatTensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  return reshape(x, [batch, tokens, heads, width / heads]);
}

/** Heads of several kinds, such as those of keys and values, one behind the other: [B, T, ΣH·D] → of each [B, T, H, D] */
export function cutHeads<const Counts extends readonly number[]>(
  x: FloatTensor,
  counts: Counts,
): { [K in keyof Counts]: FloatTensor } {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const all = splitHeads(x, total);
  let end = 0;
  return counts.map((count) => narrow(all, 2, (end += count) - count, count)) as { [K in keyof Counts]: FloatTensor };
}

/** [B, T, H, D] → [B, T, H·D] */
export function joinHeads(x: FloatTensor): FloatTensor {
  const [batch, tokens, heads, size] = x.shape as [number, number, number, number];
  return reshape(x, [batch, tokens, heads * size]);
}
