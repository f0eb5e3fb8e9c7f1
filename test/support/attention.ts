/** Attention in float64, in which masks are applied pair by pair, and the allowed errors of tests of attention. */
import type { Device } from "../../lib/core/device.js";
import { attention, type AttentionOptions } from "../../lib/ops/attention.js";
import { formatShape } from "../../lib/core/shape.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import type { Tolerance } from "./close.js";
import { type Nd, nd, normal } from "./nd.js";
import { Random } from "./random.js";

/** [B, Tq, Tk, H, Hkv, D] */
export type Sizes = [number, number, number, number, number, number];

type Blocks = NonNullable<Visible["blocks"]>;

/** The options of `attention` as plain numbers. */
export interface Visible {
  causal?: boolean;
  keyLengths?: number[];
  queryStarts?: number[];
  window?: number;
  /** [B, Tq, 2] */
  keyRanges?: number[];
  slopes?: number[];
  /** [H, 2·F + 1] */
  relative?: number[];
  /** [B or 1, H or 1, rows, columns] */
  blocks?: { mask: number[]; shape: [number, number, number, number]; size: number };
  softcap?: number;
}

const random = new Random(10);

export const inputsOf = ([B, Tq, Tk, H, Hkv, D]: Sizes) => ({
  q: normal(random, [B, Tq, H, D]),
  k: normal(random, [B, Tk, Hkv, D]),
  v: normal(random, [B, Tk, Hkv, D]),
});

export const ints = (values: number[] | undefined, device: Device): IntTensor | null =>
  values ? tensor(Int32Array.from(values), [values.length], { device }) : null;

/** Returns the options that `attention` takes, on a device. */
export function optionsOf(
  { keyLengths, queryStarts, keyRanges, slopes, relative, blocks, ...rest }: Visible,
  q: FloatTensor,
): AttentionOptions {
  const { device, shape } = q;
  return {
    ...rest,
    keyLengths: ints(keyLengths, device),
    queryStarts: ints(queryStarts, device),
    keyRanges: keyRanges ? tensor(Int32Array.from(keyRanges), [shape[0]!, shape[1]!, 2], { device }) : null,
    blocks: blocks ? { mask: tensor(Uint8Array.from(blocks.mask), blocks.shape, { device }), size: blocks.size } : null,
    slopes: slopes ? tensor(slopes, [slopes.length], { device }) : null,
    relative: relative ? tensor(relative, [shape[2]!, relative.length / shape[2]!], { device }) : null,
  };
}

function seesBlock({ mask, shape, size }: Blocks, b: number, h: number, position: number, key: number): boolean {
  const [batch, heads, rows, columns] = shape;
  const row = Math.floor(position / size);
  if (row < 0 || row >= rows) return false;
  const head = (batch === 1 ? 0 : b) * heads + (heads === 1 ? 0 : h);
  return mask[(head * rows + row) * columns + Math.floor(key / size)] !== 0;
}

/**
 * Computes the textbook's attention row by row; `mask` [B, H, Tq, Tk] multiplies the weights (dropout). It uses plain
 * loops, because derivatives take hundreds of evaluations.
 */
export function reference(q: Nd, k: Nd, v: Nd, visible: Visible, scale?: number, mask?: Nd): Nd {
  const [B, Tq, H, D] = q.shape as [number, number, number, number];
  const [, Tk, Hkv] = k.shape as [number, number, number];
  const { causal = false, window = 0, keyRanges, slopes, relative, blocks, softcap = 0 } = visible;
  const columns = (relative?.length ?? H) / H;
  const furthest = (columns - 1) / 2;
  const factor = scale ?? 1 / Math.sqrt(D);
  const [queries, keys, values, data] = [q.data, k.data, v.data, new Float64Array(q.data.length)];
  const scores = new Float64Array(Tk);
  for (let b = 0; b < B; b++) {
    const length = Math.min(visible.keyLengths?.[b] ?? Tk, Tk);
    const start = visible.queryStarts?.[b] ?? (visible.keyLengths?.[b] ?? Tk) - Tq;
    for (let h = 0; h < H; h++) {
      const kv = Math.floor((h * Hkv) / H);
      const slope = Math.fround(slopes?.[h] ?? 0);
      for (let i = 0; i < Tq; i++) {
        const position = start + i;
        const range = 2 * (b * Tq + i);
        const query = ((b * Tq + i) * H + h) * D;
        scores.fill(-Infinity);
        let highest = -Infinity;
        for (let j = 0; j < length; j++) {
          const distance = Math.abs(position - j);
          if (causal && j > position) continue;
          if (window > 0 && distance >= window) continue;
          if (keyRanges && (j < keyRanges[range]! || j >= keyRanges[range + 1]!)) continue;
          if (blocks && !seesBlock(blocks, b, h, position, j)) continue;
          const key = ((b * Tk + j) * Hkv + kv) * D;
          let score = 0;
          for (let d = 0; d < D; d++) score += queries[query + d]! * keys[key + d]!;
          score *= factor;
          if (softcap > 0) score = softcap * Math.tanh(score / softcap);
          score -= slope * distance;
          const away = Math.min(Math.max(j - position, -furthest), furthest);
          if (relative) score += Math.fround(relative[h * columns + furthest + away]!);
          scores[j] = score;
          if (score > highest) highest = score;
        }
        if (highest === -Infinity) continue;
        let total = 0;
        for (let j = 0; j < length; j++) total += scores[j] = Math.exp(scores[j]! - highest);
        for (let j = 0; j < length; j++) {
          if (scores[j] === 0) continue;
          const weight = (scores[j]! / total) * (mask?.data[((b * H + h) * Tq + i) * Tk + j] ?? 1);
          const value = ((b * Tk + j) * Hkv + kv) * D;
          for (let d = 0; d < D; d++) data[query + d]! += weight * values[value + d]!;
        }
      }
    }
  }
  return { shape: q.shape, data };
}

/** The same for rows that hold queries, keys and values one after the other, [B, T, (heads + 2·kvHeads)·D]. */
export function packedReference(qkv: Nd, heads: number, kvHeads: number, visible: Visible): Nd {
  const [B, T, width] = qkv.shape as [number, number, number];
  const D = width / (heads + 2 * kvHeads);
  const cut = (first: number, count: number): Nd =>
    nd(
      [B, T, count, D],
      Array.from({ length: B * T }, (_, r) =>
        Array.from(qkv.data.subarray(r * width + first * D, r * width + (first + count) * D)),
      ).flat(),
    );
  const out = reference(cut(0, heads), cut(heads, kvHeads), cut(heads + kvHeads, kvHeads), visible);
  return nd([B, T, heads * D], out.data);
}

interface Allowed {
  out: Tolerance;
  grad: Tolerance;
}

// Scores are sums of D products of a few units, so that their exponentials have a relative error of some 5 u. Then up
// to 257 weighted values are added. Gradients subtract Σ dout·out, and their terms, of about 1, cancel.
export const tolerance: Allowed = {
  out: { relative: 8, absolute: 8 },
  grad: { relative: 8, absolute: 24, scale: 1 },
};

// Weights are rounded before they multiply the values, and so are their gradients before they multiply keys and
// queries. Backward takes the rounded output. The sums of such terms are about 1.
export const roundings: Allowed = {
  out: { relative: 1, absolute: 2 },
  grad: { relative: 2, absolute: 4, scale: 1 },
};

// The rounding error of a sum of D products grows like √D: it is twice as large at 256 as at 64, for which the
// tolerances above hold.
export const largeHeads: Allowed = {
  out: { relative: 8, absolute: 16 },
  grad: { relative: 8, absolute: 48, scale: 1 },
};

/** A name, sizes and masks. */
export type MaskCase = [string, Sizes, Visible];

/** Returns an `opTest` of `attention`, or of its twin, with any masks, together with its reference. */
export const masked = (cases: readonly MaskCase[], op = attention) => ({
  cases: cases.map(([name, sizes, options]) => ({
    name: `${name}: ${formatShape(sizes)}${options.causal ? " causal" : ""}`,
    inputs: inputsOf(sizes),
    options,
  })),
  ours: ({ q, k, v }: Record<"q" | "k" | "v", FloatTensor>, _: unknown, options: Visible): FloatTensor =>
    op(q, k, v, optionsOf(options, q)),
  reference: ({ q, k, v }: Record<"q" | "k" | "v", Nd>, _: unknown, options: Visible): Nd =>
    reference(q, k, v, options),
  roundings,
  single: false,
});
