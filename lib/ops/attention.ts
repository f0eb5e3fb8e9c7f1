import { needsGrad, record } from "../autograd.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { formatShape } from "../shape.js";
import { allocate, type FloatTensor, type IntTensor, type Tensor } from "../tensor.js";
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
import { contiguous, reshape } from "./views.js";

/** Which blocks of keys the blocks of queries see: `localBlocks` and `stridedBlocks` make some. */
export interface BlockMask {
  /**
   * [B or 1, H or 1, rows, columns]: where mask[b, h, ⌊p / size⌋, ⌊j / size⌋] is 0, the query at position p of sequence b
   * does not see key j. Every key needs a column; a position without a row sees nothing.
   */
  mask: Tensor<"u8">;
  /** Positions of a block's side: what is hidden costs next to nothing in multiples of 64. */
  size: number;
}

export interface AttentionOptions {
  /** Query i sees keys up to its own position; false unless given. */
  causal?: boolean;
  /** [B]: sequence b has keys 0 to keyLengths[b] − 1. All of them unless given. */
  keyLengths?: IntTensor | null;
  /**
   * [B]: position among the keys of each sequence's first query; keyLengths[b] − Tq unless given. For `causal`, `window`,
   * `slopes` and `blocks`.
   */
  queryStarts?: IntTensor | null;
  /** Query at position p sees keys after p − window and, unless causal, before p + window; 0, none, unless given. */
  window?: number;
  /**
   * [B, Tq, 2]: query i of sequence b sees keys from keyRanges[b, i, 0] on, up to but without keyRanges[b, i, 1], as far
   * as the other options let it. Bounds may lie beyond the keys. See `documentRanges` and `prefixRanges`.
   */
  keyRanges?: IntTensor | null;
  /** Blocks of keys that a query sees, as far as the other options let it; all of them unless given. */
  blocks?: BlockMask | null;
  /**
   * f32 [H]: head h takes slopes[h] · |distance of query and key| off its scores (ALiBi, Press et al. 2022). They get no
   * gradient. See `alibiSlopes`.
   */
  slopes?: FloatTensor | null;
  /** Scores s become softcap · tanh(s / softcap) before the slopes (Gemma 2); 0, none, unless given. */
  softcap?: number;
  /** Factor of the scores; 1/√D unless given. */
  scale?: number;
  /** Probability of dropping an attention weight; 0 unless given. */
  dropout?: number;
  /** Of the dropout. */
  seed?: number;
}

/** Strided views of the operands as the kernels take them. */
interface Operands {
  q: FloatTensor;
  k: FloatTensor;
  v: FloatTensor;
}

/**
 * Runs the kernels over q [B, Tq, H, D], k and v [B, Tk, Hkv, D], cut out of `sources` by `views`, and records one step
 * over the sources. Backward writes dq, dk and dv through the same views of the sources' gradients.
 */
function attend(
  sources: FloatTensor[],
  views: (sources: FloatTensor[]) => Operands,
  options: AttentionOptions,
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
  const out: FloatTensor = allocate([batch, queries, heads, size], q.dtype, device);
  const lse = needsGrad(sources) ? allocate([batch, heads, queries], "f32", device, false) : null;
  ops.attention_forward({
    out,
    lse,
    q,
    k,
    v,
    keyLengths,
    queryStarts,
    keyRanges,
    slopes,
    causal,
    window,
    softcap,
    scale,
    dropoutP: dropout,
    seed,
    blockMask,
    blockSize,
  });
  disposeAll({ q, k, v });
  if (lse) {
    const masks = { keyLengths, queryStarts, keyRanges, slopes, blockMask };
    const saved: Record<string, Tensor | null> = { out, lse, ...masks };
    sources.forEach((source, i) => (saved[`source${i}`] = source));
    record("attention", out, sources, saved, ({ dout, needs, gradient, pass, saved }) => {
      const inputs = sources.map((_, i) => saved[`source${i}`] as FloatTensor);
      // Written apart where a source already has a gradient, or wants none: the kernel has no accumulating form.
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

/** Throws unless the options are what attention of q [B, Tq, H, D] to k [B, Tk, Hkv, D] takes. */
function checkOptions(options: AttentionOptions, q: FloatTensor, k: FloatTensor): void {
  const { window = 0, softcap = 0, dropout = 0, seed = 0 } = options;
  const { keyLengths = null, queryStarts = null, keyRanges = null, slopes = null, blocks = null } = options;
  const [batch, queries, heads, size] = q.shape as [number, number, number, number];
  checkInteger("attention", "window", window, 0);
  checkNumber("attention", "softcap", softcap, 0, largestFloat);
  checkNumber("attention", "scale", options.scale ?? 1 / Math.sqrt(size));
  checkNumber("attention", "dropout", dropout, 0, 1);
  checkInteger("attention", "seed", seed, 0);
  for (const [name, tensor, dtype, shape] of [
    ["keyLengths", keyLengths, "i32", [batch]],
    ["queryStarts", queryStarts, "i32", [batch]],
    ["keyRanges", keyRanges, "i32", [batch, queries, 2]],
    ["slopes", slopes, "f32", [heads]],
  ] as const)
    if (tensor !== null) {
      checkTensor("attention", name, tensor, q);
      checkDType("attention", name, tensor, dtype);
      checkShapeIs("attention", name, tensor, shape);
    }
  if (blocks !== null) checkBlocks(blocks, q, k, keyLengths !== null || queryStarts !== null);
}

/** @internal Throws unless these are what attention takes. */
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
  checkShapeIs("attention", "k", k, [batch, -1, -1, size]);
  checkShapeIs("attention", "v", v, k.shape);
  if (k.shape[2] === 0 || heads % k.shape[2]! !== 0)
    throw new HeedError(
      "ERR_SHAPE",
      `attention: expected ${heads} query heads to be a multiple of the key heads, got ${k.shape[2]}`,
    );
}

/** `placed`: positions of queries are in tensors, and what has no row in the mask is not known here. */
function checkBlocks(blocks: BlockMask, q: FloatTensor, k: FloatTensor, placed: boolean): void {
  checkObject("attention", "blocks", blocks);
  const { mask, size } = blocks;
  checkTensor("attention", "blocks.mask", mask, q);
  checkDType("attention", "blocks.mask", mask, "u8");
  checkInteger("attention", "blocks.size", size, 1, 2 ** 31 - 1);
  const [batch, , heads] = q.shape as [number, number, number, number];
  const keys = k.shape[1]!;
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
 * Scaled dot-product attention softmax(q·kᵀ·scale)·v (Vaswani et al. 2017, eq. 1), tiled with an online softmax: the
 * Tq × Tk matrix never exists (Dao 2023).
 *
 * q [B, Tq, H, D]; k, v [B, Tk, Hkv, D] with H a multiple of Hkv (grouped-query heads) → [B, Tq, H, D]. Strided views
 * are read in place as long as D is contiguous. A query that sees no key gives zeros.
 *
 * Keys and values before the first and after the last that any query of a sequence sees (padding, the rest of a cache) are
 * never touched, forward or backward: they may hold anything. Between those, a key or value that is NaN or infinite makes
 * NaN of what sees it, and may do so of queries that do not see it but are fewer than 128 away from one that does. It
 * reaches no other sequence and no other group of heads. docs/architecture.md says why.
 */
export function attention(q: FloatTensor, k: FloatTensor, v: FloatTensor, options: AttentionOptions = {}): FloatTensor {
  checkOperands(q, k, v, options);
  const given = [q, k, v];
  const sources = given.map((t) => (t.strides[3] === 1 || t.shape[3]! <= 1 ? t : contiguous(t)));
  const out = attend(sources, ([a, b, c]) => ({ q: a!.alias(), k: b!.alias(), v: c!.alias() }), options);
  for (const [i, source] of sources.entries()) if (source !== given[i]) source.dispose();
  return out;
}

/**
 * Self-attention over a packed projection qkv [B, T, (H + 2·Hkv)·D]: queries, then keys, then values → [B, T, H·D].
 * Nothing is copied or permuted, forward or backward.
 */
export function packedAttention(
  qkv: FloatTensor,
  options: AttentionOptions & { heads: number; kvHeads?: number },
): FloatTensor {
  checkObject("packedAttention", "options", options);
  const { heads, kvHeads = heads } = options;
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
