import { needsGrad, record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import type { DType } from "../core/dtype.js";
import { formatShape } from "../core/shape.js";
import { allocate, type FloatTensor, type IntTensor, Tensor } from "../core/tensor.js";
import {
  checkDType,
  checkFloat,
  checkInteger,
  checkNumber,
  checkObject,
  checkShapeIs,
  checkTensor,
  largestFloat,
} from "./check.js";
import type { QuantizedKeys, StoredKeys } from "./quantized-keys.js";
import { contiguous, reshape } from "./views.js";

/**
 * Mask that says which blocks of keys each block of queries sees. `localBlocks` and `stridedBlocks` make such masks.
 */
export interface BlockMask {
  /**
   * u8 [B or 1, H or 1, rows, columns]. If mask[b, h, ⌊p / size⌋, ⌊j / size⌋] is 0, the query at position p of sequence
   * b does not see key j in head h. Every key needs a column; a position without a row sees nothing.
   */
  mask: Tensor<"u8">;
  /** Positions along each side of a block. If it is a multiple of 64, hidden blocks cost next to nothing. */
  size: number;
}

/** Options of `attention` and `packedAttention`. */
export interface AttentionOptions {
  /**
   * i32 [B, P], for inference: keys and values lie in pages of S tokens, k and v [N, S, Hkv, D], which sequences may
   * share. Key j of sequence b is token j mod S of page pages[b, ⌊j/S⌋], and Tk is P·S. Entries beyond keyLengths[b] are
   * not read. `packedAttention` does not take pages.
   *
   * @default null
   */
  pages?: IntTensor | null;
  /** Lets a query see only the keys up to its own position. @default false */
  causal?: boolean;
  /** i32 [B]: sequence b has the keys 0 to keyLengths[b] − 1. By default it has all Tk. */
  keyLengths?: IntTensor | null;
  /**
   * i32 [B]: position of each sequence's first query among its keys, for `causal`, `window`, `slopes` and `blocks`. By
   * default it is keyLengths[b] − Tq: the queries belong to the last keys.
   */
  queryStarts?: IntTensor | null;
  /**
   * Lets the query at position p see only the keys after p − window and, unless `causal` is set, before p + window; 0
   * sets no limit.
   *
   * @default 0
   */
  window?: number;
  /**
   * i32 [B, Tq, 2]: query i of sequence b sees the keys from keyRanges[b, i, 0] to before keyRanges[b, i, 1], as far as
   * the other options allow. The bounds may lie beyond the keys. `documentRanges` and `prefixRanges` make such ranges.
   */
  keyRanges?: IntTensor | null;
  /** Blocks of keys that a query sees, as far as the other options allow. By default it sees all blocks. */
  blocks?: BlockMask | null;
  /**
   * f32 [H]: head h subtracts slopes[h] · |distance between query and key| from its scores (ALiBi). The slopes get no
   * gradient. `alibiSlopes` returns those of the paper.
   */
  slopes?: FloatTensor | null;
  /**
   * f32 [H, 2·F + 1], for inference: head h adds relative[h, F + d] to the score of a key that lies d positions after the
   * query, before it if d is negative (Raffel et al. 2020). Distances beyond F count as F.
   *
   * @default null
   */
  relative?: FloatTensor | null;
  /**
   * Bound of the scores: s becomes softcap · tanh(s / softcap) before the slopes are subtracted (Gemma 2); 0 sets no
   * bound.
   *
   * @default 0
   */
  softcap?: number;
  /** Factor of the scores. @default 1/√D */
  scale?: number;
  /** Probability with which an attention weight is dropped. @default 0 */
  dropout?: number;
  /** Seed of the dropout. @default 0 */
  seed?: number;
}

/** Strided views of the operands, as the kernels take them. */
interface Operands {
  q: FloatTensor;
  k: FloatTensor;
  v: FloatTensor;
}

/**
 * Runs the kernels over q [B, Tq, H, D], k and v [B, Tk, Hkv, D], which `views` cuts out of `sources`, and records one
 * step with the sources as its inputs. The backward pass writes dq, dk and dv through the same views of the sources'
 * gradients.
 */
function attend(
  sources: FloatTensor[],
  views: (sources: FloatTensor[]) => Operands,
  options: AttentionOptions,
  into: FloatTensor | null = null,
): FloatTensor {
  const { causal = false, window = 0, softcap = 0, dropout = 0, seed = 0 } = options;
  const { keyLengths = null, queryStarts = null, keyRanges = null, slopes = null, blocks = null } = options;
  const { q, k, v } = views(sources);
  checkOptions(options, q, k);
  const [batch, queries, heads, size] = q.shape as [number, number, number, number];
  const scale = options.scale ?? 1 / Math.sqrt(size);
  const blockMask = blocks?.mask ?? null;
  const blockSize = blocks?.size ?? 0;
  const device = q.device;
  const recorded = needsGrad(sources);
  for (const name of ["pages", "relative"] as const)
    if (recorded && options[name])
      throw new HeedError("ERR_ARGUMENT", `attention: expected no operand that needs a gradient with ${name}, got one`);
  const out: FloatTensor = into ?? allocate([batch, queries, heads, size], q.dtype, device);
  const lse = recorded ? allocate([batch, heads, queries], "f32", device, false) : null;
  runForward({ out, lse, q, k, v }, options);
  disposeAll({ q, k, v });
  if (lse) {
    const masks = { keyLengths, queryStarts, keyRanges, slopes, blockMask };
    const saved: Record<string, Tensor | null> = { out, lse, ...masks };
    sources.forEach((source, i) => (saved[`source${i}`] = source));
    record("attention", out, sources, saved, ({ dout, needs, gradient, pass, saved }) => {
      const inputs = sources.map((_, i) => saved[`source${i}`] as FloatTensor);
      // The kernel cannot accumulate. If a source already has a gradient, or needs none, its gradient is written to
      // memory of its own.
      const gradients = inputs.map((input, i) => {
        if (needs(i)) {
          const slot = gradient(i);
          if (!slot.accumulate) return { out: slot.out, apart: false };
        }
        return { out: allocate(input.shape, input.dtype, device, false), apart: true };
      });
      const from = views(inputs);
      const to = views(gradients.map((g) => g.out));
      ops.attention_backward({
        dq: to.q,
        dk: to.k,
        dv: to.v,
        dout,
        q: from.q,
        k: from.k,
        v: from.v,
        out: saved.out!,
        lse: saved.lse!,
        keyLengths: saved.keyLengths,
        queryStarts: saved.queryStarts,
        keyRanges: saved.keyRanges,
        slopes: saved.slopes,
        causal,
        window,
        softcap,
        scale,
        dropoutP: dropout,
        seed,
        blockMask: saved.blockMask,
        blockSize,
      });
      disposeAll(from);
      disposeAll(to);
      gradients.forEach((g, i) => {
        if (!g.apart) return;
        pass(i, g.out);
        g.out.dispose();
      });
    });
    lse.dispose();
  }
  return out;
}

/** Operands of the forward kernel. */
interface ForwardOperands {
  out: FloatTensor;
  lse?: FloatTensor | null;
  q: FloatTensor;
  k: Tensor;
  v: Tensor;
  kScales?: FloatTensor;
  vScales?: FloatTensor;
}

/** Enqueues the forward kernel. Operands and options were checked. */
function runForward(operands: ForwardOperands, options: AttentionOptions): void {
  const { causal = false, window = 0, softcap = 0, dropout: dropoutP = 0, seed = 0 } = options;
  const { pages, keyLengths, queryStarts, keyRanges, slopes, relative, blocks } = options;
  const { scale = 1 / Math.sqrt(operands.q.shape[3]!) } = options;
  const { out, lse, q, k, v, kScales, vScales } = operands;
  ops.attention_forward({
    out,
    lse,
    q,
    k,
    v,
    kScales,
    vScales,
    pages,
    keyLengths,
    queryStarts,
    keyRanges,
    slopes,
    relative,
    causal,
    window,
    softcap,
    scale,
    dropoutP,
    seed,
    blockMask: blocks?.mask,
    blockSize: blocks?.size ?? 0,
  });
}

/** Checks that the options fit attention from q [B, Tq, H, D] to k [B, Tk, Hkv, D]. */
function checkOptions(options: AttentionOptions, q: FloatTensor, k: Tensor): void {
  const { window = 0, softcap = 0, dropout = 0, seed = 0 } = options;
  const { keyLengths = null, queryStarts = null, keyRanges = null, slopes = null, blocks = null } = options;
  const [batch, queries, heads, size] = q.shape as [number, number, number, number];
  checkInteger("attention", "window", window, 0);
  checkNumber("attention", "softcap", softcap, 0, largestFloat);
  checkNumber("attention", "scale", options.scale ?? 1 / Math.sqrt(size));
  checkNumber("attention", "dropout", dropout, 0, 1);
  checkInteger("attention", "seed", seed, 0);
  const { pages = null, relative = null } = options;
  const check = (name: string, tensor: Tensor, dtype: DType, shape: readonly number[]): void => {
    checkTensor("attention", name, tensor, q);
    checkDType("attention", name, tensor, dtype);
    checkShapeIs("attention", name, tensor, shape);
  };
  if (pages !== null) check("pages", pages, "i32", [batch, -1]);
  if (keyLengths !== null) check("keyLengths", keyLengths, "i32", [batch]);
  if (queryStarts !== null) check("queryStarts", queryStarts, "i32", [batch]);
  if (keyRanges !== null) check("keyRanges", keyRanges, "i32", [batch, queries, 2]);
  if (slopes !== null) check("slopes", slopes, "f32", [heads]);
  if (relative !== null) check("relative", relative, "f32", [heads, -1]);
  if (relative && (relative.shape[1]! % 2 === 0 || !relative.contiguous))
    throw new HeedError(
      "ERR_SHAPE",
      `attention: expected relative to be contiguous, with an odd number of columns, got ${relative.shape[1]} columns`,
    );
  const keys = k.shape[1]! * (pages?.shape[1] ?? 1);
  if (blocks !== null) checkBlocks(blocks, q, keys, keyLengths !== null || queryStarts !== null);
}

/** @internal Checks operands and options of `attention`. */
export function checkAttention(q: FloatTensor, k: FloatTensor, v: FloatTensor, options: AttentionOptions): void {
  checkOperands(q, k, v, options);
  checkOptions(options, q, k);
}

function checkOperands(q: FloatTensor, k: FloatTensor, v: FloatTensor, options: AttentionOptions): void {
  checkObject("attention", "options", options);
  checkFloat("attention", "q", q);
  checkFloat("attention", "k", k, q);
  checkFloat("attention", "v", v, q);
  checkShapeIs("attention", "q", q, [-1, -1, -1, -1]);
  const [batch, , heads, size] = q.shape as [number, number, number, number];
  checkShapeIs("attention", "k", k, [options.pages ? -1 : batch, -1, -1, size]);
  checkShapeIs("attention", "v", v, k.shape);
  if (k.shape[2] === 0 || heads % k.shape[2]! !== 0)
    throw new HeedError(
      "ERR_SHAPE",
      `attention: expected ${heads} query heads to be a multiple of the key heads, got ${k.shape[2]}`,
    );
}

/**
 * Checks a block mask. If `placed` is true, tensors hold the positions of queries, so that the number of rows that the
 * mask needs is unknown here.
 */
function checkBlocks(blocks: BlockMask, q: FloatTensor, keys: number, placed: boolean): void {
  checkObject("attention", "blocks", blocks);
  const { mask, size } = blocks;
  checkTensor("attention", "blocks.mask", mask, q);
  checkDType("attention", "blocks.mask", mask, "u8");
  checkInteger("attention", "blocks.size", size, 1, 2 ** 31 - 1);
  const [batch, , heads] = q.shape as [number, number, number, number];
  const least = Math.ceil(keys / size);
  const [b, h, rows, columns] = mask.shape;
  const enough = (rows! >= least || placed) && columns! >= least;
  if (mask.shape.length !== 4 || (b !== 1 && b !== batch) || (h !== 1 && h !== heads) || !enough)
    throw new HeedError(
      "ERR_SHAPE",
      `attention: expected blocks.mask of shape [1 or ${batch}, 1 or ${heads}, rows, columns] with blocks of ${size} for ${keys} positions, got ${formatShape(mask.shape)}`,
    );
}

function disposeAll({ q, k, v }: Operands): void {
  q.dispose();
  k.dispose();
  v.dispose();
}

/**
 * Returns scaled dot-product attention softmax(q·kᵀ·scale)·v. It is computed in tiles with an online softmax, so that
 * the Tq × Tk matrix never exists.
 *
 * q [B, Tq, H, D]; k, v [B, Tk, Hkv, D], or [N, S, Hkv, D] with `pages`, with H a multiple of Hkv (grouped-query heads) → [B, Tq, H, D]. Strided views
 * are read in place as long as D is contiguous. The result of a query that sees no key is 0. In inference, keys and
 * values may be bf16 or f16 beside queries in f32.
 *
 * Keys and values that lie before the first or after the last one that any query of a sequence sees (padding, unused
 * places of a cache) are never touched, forward or backward, so they may hold anything. Between those, a NaN or
 * infinite key or value makes the results of the queries that see it NaN. It may also do this to queries that do not
 * see it but are fewer than 128 positions away from one that does. It never affects another sequence or another group
 * of heads. docs/architecture.md explains why.
 *
 * @example
 * const q = randn([2, 6, 8, 16], { seed: 1 }); // [B, T, H, D]
 * const kv = randn([2, 6, 2, 16], { seed: 2 }); // 4 query heads share a key head
 * const y = attention(q, kv, kv, { causal: true }); // [2, 6, 8, 16]
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_RANGE if a number is out of range.
 * @see Vaswani et al. 2017, "Attention Is All You Need", eq. 1, arXiv:1706.03762; Dao 2023, "FlashAttention-2",
 *   arXiv:2307.08691.
 */
export function attention(q: FloatTensor, k: FloatTensor, v: FloatTensor, options: AttentionOptions = {}): FloatTensor {
  return attentionInto(null, q, k, v, options);
}

/**
 * @internal Does the same as `attention`, and writes to `into` [B, Tq, H, D] unless it is null. Keys and values may also be
 * in 8 bits, both or none.
 */
export function attentionInto(
  into: FloatTensor | null,
  q: FloatTensor,
  k: StoredKeys,
  v: StoredKeys,
  options: AttentionOptions,
): FloatTensor {
  if (isQuantized(k) && isQuantized(v))
    return storedAttention(into, q, { k: k.codes, v: v.codes, kScales: k.scales, vScales: v.scales }, options);
  const tensors: [FloatTensor, FloatTensor, FloatTensor] = [q, k as FloatTensor, v as FloatTensor];
  if (inHalves(tensors)) return storedAttention(into, q, { k: tensors[1], v: tensors[2] }, options);
  checkOperands(...tensors, options);
  const sources = tensors.map((t) => (t.strides[3] === 1 || t.shape[3]! <= 1 ? t : contiguous(t)));
  const out = attend(sources, ([a, b, c]) => ({ q: a!.alias(), k: b!.alias(), v: c!.alias() }), options, into);
  for (const [i, source] of sources.entries()) if (source !== tensors[i]) source.dispose();
  return out;
}

function isQuantized(x: StoredKeys): x is QuantizedKeys {
  return x !== null && typeof x === "object" && !(x instanceof Tensor) && "codes" in x;
}

/** Returns true for keys and values in 16 bits beside queries in f32. */
function inHalves([q, k, v]: readonly [unknown, unknown, unknown]): boolean {
  const halves = (x: unknown): boolean => x instanceof Tensor && (x.dtype === "bf16" || x.dtype === "f16");
  return q instanceof Tensor && q.dtype === "f32" && halves(k) && halves(v);
}

/** Returns attention to keys and values that are stored in fewer bits than the queries have. */
function storedAttention(
  into: FloatTensor | null,
  q: FloatTensor,
  stored: Pick<ForwardOperands, "k" | "v" | "kScales" | "vScales">,
  options: AttentionOptions,
): FloatTensor {
  checkFloat("attention", "q", q);
  checkShapeIs("attention", "q", q, [-1, -1, -1, -1]);
  checkTensor("attention", "k", stored.k, q);
  checkTensor("attention", "v", stored.v, q);
  const { kScales } = stored;
  if (needsGrad(kScales ? [q] : [q, stored.k, stored.v]))
    throw new HeedError(
      "ERR_ARGUMENT",
      `attention: expected no gradient with keys in ${kScales ? 8 : 16} bits beside queries in ${q.dtype}, got an operand that needs one`,
    );
  checkOptions(options, q, stored.k);
  const rows = (x: Tensor): Tensor => (x.strides[3] === 1 || x.shape[3]! <= 1 ? x : contiguous(x));
  const [queries, k, v] = [q, stored.k, stored.v].map(rows) as [FloatTensor, Tensor, Tensor];
  const out: FloatTensor = into ?? allocate(q.shape, q.dtype, q.device);
  runForward({ ...stored, out, q: queries, k, v }, options);
  if (queries !== q) queries.dispose();
  if (k !== stored.k) k.dispose();
  if (v !== stored.v) v.dispose();
  return out;
}

/**
 * Returns self-attention over a packed projection qkv [B, T, (H + 2·Hkv)·D] → [B, T, H·D]. The projection holds the
 * queries, then the keys, then the values. If it is contiguous, nothing is copied or permuted, forward or backward.
 *
 * H is `heads`; Hkv is `kvHeads`, which is equal to `heads` by default.
 *
 * @example
 * const qkv = randn([2, 6, (8 + 2 * 2) * 16], { seed: 1 });
 * const y = packedAttention(qkv, { heads: 8, kvHeads: 2, causal: true }); // [2, 6, 128]
 *
 * @throws ERR_SHAPE if the width of qkv does not fit the heads, or `heads` is not a multiple of `kvHeads`; ERR_RANGE if
 *   a number is out of range.
 */
export function packedAttention(
  qkv: FloatTensor,
  options: AttentionOptions & { heads: number; kvHeads?: number },
): FloatTensor {
  checkObject("packedAttention", "options", options);
  const { heads, kvHeads = heads, pages = null } = options;
  if (pages !== null)
    throw new HeedError("ERR_ARGUMENT", "packedAttention: expected no pages, which `attention` takes, got some");
  checkFloat("packedAttention", "qkv", qkv);
  checkShapeIs("packedAttention", "qkv", qkv, [-1, -1, -1]);
  checkInteger("packedAttention", "heads", heads, 1);
  checkInteger("packedAttention", "kvHeads", kvHeads, 1);
  const [batch, length, width] = qkv.shape as [number, number, number];
  const size = width / (heads + 2 * kvHeads);
  if (heads % kvHeads !== 0 || !Number.isInteger(size) || size === 0)
    throw new HeedError(
      "ERR_SHAPE",
      `packedAttention: expected qkv of shape [B, T, (${heads} + 2·${kvHeads})·D] and heads a multiple of kvHeads, got ${formatShape(qkv.shape)}`,
    );
  const views = ([packed]: FloatTensor[]): Operands => {
    const cut = (first: number, count: number): FloatTensor =>
      packed!.viewAs(
        [batch, length, count, size],
        [packed!.strides[0]!, packed!.strides[1]!, size, 1],
        first * size,
        false,
      );
    return { q: cut(0, heads), k: cut(heads, kvHeads), v: cut(heads + kvHeads, kvHeads) };
  };
  const input = contiguous(qkv);
  const whole = attend([input], views, options);
  const out = reshape(whole, [batch, length, heads * size]);
  whole.dispose();
  if (input !== qkv) input.dispose();
  return out;
}
