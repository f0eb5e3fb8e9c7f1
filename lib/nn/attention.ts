import { HeedError } from "../errors.js";
import { attention, type AttentionOptions, type BlockMask, packedAttention } from "../ops/attention.js";
import { alibiSlopes } from "../ops/attention-masks.js";
import { checkFloat, checkInteger, checkNumber, checkShapeIs, largestFloat } from "../ops/check.js";
import { rotary } from "../ops/rotary.js";
import { narrow, reshape } from "../ops/views.js";
import { keep } from "../scope.js";
import { zeros } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import type { Initializer } from "./init.js";
import type { KvCache } from "./kv-cache.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { RmsNorm } from "./rms-norm.js";

export interface AttentionConfig {
  width: number;
  heads: number;
  /** Heads of keys and values, a divisor of heads: each serves a group of them (Ainslie et al. 2023); heads unless given. */
  kvHeads?: number;
  causal: boolean;
  bias?: boolean;
  /** Of the attention weights. */
  dropout?: number;
  /** A token sees the last `window` tokens, itself included, and unless causal as many after it; 0, all, unless given. */
  window?: number;
  /** Scores become softcap · tanh(score / softcap); 0, none, unless given. */
  softcap?: number;
  /** Factor of the scores. @default 1/√D, D the size of a head */
  scale?: number;
  /** Scores fall with the distance, at each head's own slope (Press et al. 2022); false unless given. */
  alibi?: boolean;
  /** Queries and keys are turned by their positions: a table from `rotaryTable`, which layers may share, and its pairing. */
  rotary?: { table: FloatTensor; interleaved?: boolean } | null;
  /** RMS norms of each head's queries and keys (Henry et al. 2020, as in Qwen 3); false unless given. */
  qkNorm?: boolean;
  /** Of those norms; 1e-5 unless given. */
  eps?: number;
  layout?: "oi" | "io";
  std?: number;
  /** Standard deviation of the output projection. */
  outputStd?: number;
}

export interface AttentionContext {
  /** i32 [B]: real tokens in each sequence, the rest is padding at its end. */
  keyLengths?: IntTensor | null;
  /** i32 [B, T, 2]: the keys that each token may see, as the operation has it. */
  keyRanges?: IntTensor | null;
  /** Which blocks of keys a token sees, as the operation has it. */
  blocks?: BlockMask | null;
  /** false where `keyRanges` alone say what is hidden; the module's own unless given. */
  causal?: boolean;
  /** Earlier tokens; the layer's new ones are added to it. */
  cache?: KvCache | null;
  /** Which of the cache's layers this is. */
  layer?: number;
}

/** Multi-head self-attention (Vaswani et al. 2017, §3.2.2) with the queries, keys and values in one projection. */
export class Attention extends Module {
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly dropout: Dropout;
  readonly heads: number;
  readonly kvHeads: number;
  readonly causal: boolean;
  readonly window: number;
  readonly softcap: number;
  readonly scale: number;
  /** Of ALiBi, f32 [heads]. */
  readonly slopes: FloatTensor | null;
  readonly rotaryTable: FloatTensor | null;
  readonly interleaved: boolean;
  readonly q_norm: RmsNorm | null;
  readonly k_norm: RmsNorm | null;

  constructor(config: AttentionConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, heads, causal, bias = true, layout = "oi", std = 0.02, outputStd = std, dropout = 0 } = config;
    const { kvHeads = heads, window = 0, softcap = 0, alibi = false, qkNorm = false, eps = 1e-5 } = config;
    checkInteger("Attention", "heads", heads, 1);
    checkInteger("Attention", "kvHeads", kvHeads, 1);
    if (width % heads !== 0)
      throw new HeedError("ERR_SHAPE", `Attention: expected width to be a multiple of ${heads} heads, got ${width}`);
    if (heads % kvHeads !== 0)
      throw new HeedError(
        "ERR_SHAPE",
        `Attention: expected heads to be a multiple of ${kvHeads} kvHeads, got ${heads}`,
      );
    checkInteger("Attention", "window", window, 0);
    checkNumber("Attention", "softcap", softcap, 0, largestFloat);
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.causal = causal;
    this.window = window;
    this.softcap = softcap;
    const headSize = width / heads;
    const { scale = 1 / Math.sqrt(headSize) } = config;
    checkNumber("Attention", "scale", scale, -largestFloat, largestFloat);
    this.scale = scale;
    const outputs = (heads + 2 * kvHeads) * headSize;
    this.c_attn = new Linear({ inputs: width, outputs, bias, std, layout }, init);
    this.c_proj = new Linear({ inputs: width, outputs: width, bias, std: outputStd, layout }, init);
    this.dropout = new Dropout(dropout, seeds);
    this.rotaryTable = config.rotary?.table ?? null;
    this.interleaved = config.rotary?.interleaved ?? false;
    if (this.rotaryTable) checkTable(this.rotaryTable, headSize);
    this.q_norm = qkNorm ? new RmsNorm({ width: headSize, eps }, init) : null;
    this.k_norm = qkNorm ? new RmsNorm({ width: headSize, eps }, init) : null;
    this.slopes = alibi ? keep(alibiSlopes(heads, { device: init.device })) : null;
  }

  /** x [B, T, C] → [B, T, C], with `residual` added if given. */
  forward(x: FloatTensor, context: AttentionContext = {}, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("Attention", "x", x);
    checkShapeIs("Attention", "x", x, [-1, -1, -1]);
    const qkv = this.c_attn.forward(x); // [B, T, (H + 2·Hkv)·D]
    const { cache = null, layer = 0, keyRanges = null, blocks = null, causal = this.causal } = context;
    const { window, softcap, scale, slopes } = this;
    const mask = { causal, window, keyRanges, blocks, softcap, scale, slopes };
    const y = cache ? this.#cached(qkv, cache, layer, mask) : this.#whole(qkv, context.keyLengths ?? null, mask);
    return this.c_proj.forward(y, { residual });
  }

  #whole(qkv: FloatTensor, keyLengths: IntTensor | null, mask: AttentionOptions): FloatTensor {
    // With padding at the end, queries still begin at position 0 (the default would count back from the last key).
    const queryStarts = keyLengths ? zeros([qkv.shape[0]!], { dtype: "i32", device: qkv.device }) : null;
    const options = { keyLengths, queryStarts, ...mask, ...this.dropout.fused };
    const { heads, kvHeads } = this;
    if (!this.rotaryTable && !this.q_norm) return packedAttention(qkv, { heads, kvHeads, ...options });
    const { q, k, v } = this.#split(qkv, null);
    return this.#joined(attention(q, k, v, options));
  }

  #cached(qkv: FloatTensor, cache: KvCache, layer: number, mask: AttentionOptions): FloatTensor {
    const { q, k, v } = this.#split(qkv, cache.starts);
    const { keys, values } = cache.write(layer, k, v);
    const { keyLengths, starts } = cache;
    return this.#joined(attention(q, keys, values, { ...mask, keyLengths, queryStarts: starts }));
  }

  /**
   * qkv [B, T, (H + 2·Hkv)·D] → q [B, T, H, D], k and v [B, T, Hkv, D], q and k normed and turned; `starts` are the
   * positions of the first tokens.
   */
  #split(qkv: FloatTensor, starts: IntTensor | null): { q: FloatTensor; k: FloatTensor; v: FloatTensor } {
    const { heads, kvHeads, rotaryTable, interleaved } = this;
    const [batch, tokens, width] = qkv.shape as [number, number, number];
    const all = heads + 2 * kvHeads;
    const packed = reshape(qkv, [batch, tokens, all, width / all]);
    const cut = (first: number, count: number): FloatTensor => narrow(packed, 2, first, count);
    const placed = (x: FloatTensor, norm: RmsNorm | null): FloatTensor => {
      const normed = norm ? norm.forward(x) : x;
      return rotaryTable ? rotary(normed, rotaryTable, { starts, interleaved }) : normed;
    };
    const [q, k] = [placed(cut(0, heads), this.q_norm), placed(cut(heads, kvHeads), this.k_norm)];
    return { q, k, v: cut(heads + kvHeads, kvHeads) };
  }

  /** [B, T, H, D] → [B, T, C] */
  #joined(y: FloatTensor): FloatTensor {
    const [batch, tokens, heads, size] = y.shape as [number, number, number, number];
    return reshape(y, [batch, tokens, heads * size]);
  }
}

function checkTable(table: FloatTensor, headSize: number): void {
  checkFloat("Attention", "rotary.table", table);
  checkShapeIs("Attention", "rotary.table", table, [-1, -1, 2]);
  if (2 * table.shape[1]! > headSize)
    throw new HeedError(
      "ERR_SHAPE",
      `Attention: expected rotary.table of at most ${Math.floor(headSize / 2)} pairs of a head's ${headSize} dimensions, got ${table.shape[1]}`,
    );
}
