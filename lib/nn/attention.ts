import { HeedError } from "../errors.js";
import { attention, packedAttention } from "../ops/attention.js";
import { checkFloat, checkInteger, checkShapeIs } from "../ops/check.js";
import { reshape } from "../ops/views.js";
import { type FloatTensor, type IntTensor, zeros } from "../tensor.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import type { Initializer } from "./init.js";
import type { KvCache } from "./kv-cache.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface AttentionConfig {
  width: number;
  heads: number;
  causal: boolean;
  bias?: boolean;
  /** Of the attention weights. */
  dropout?: number;
  layout?: "oi" | "io";
  std?: number;
  /** Standard deviation of the output projection. */
  outputStd?: number;
}

export interface AttentionContext {
  /** i32 [B]: real tokens in each sequence, the rest is padding at its end. */
  keyLengths?: IntTensor | null;
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
  readonly causal: boolean;

  constructor(config: AttentionConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, heads, causal, bias = true, layout = "oi", std = 0.02, outputStd = std, dropout = 0 } = config;
    checkInteger("Attention", "heads", heads, 1);
    if (width % heads !== 0)
      throw new HeedError("ERR_SHAPE", `Attention: expected width to be a multiple of ${heads} heads, got ${width}`);
    this.heads = heads;
    this.causal = causal;
    this.c_attn = new Linear({ inputs: width, outputs: 3 * width, bias, std, layout }, init);
    this.c_proj = new Linear({ inputs: width, outputs: width, bias, std: outputStd, layout }, init);
    this.dropout = new Dropout(dropout, seeds);
  }

  /** x [B, T, C] → [B, T, C], with `residual` added if given. */
  forward(x: FloatTensor, context: AttentionContext = {}, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("Attention", "x", x);
    checkShapeIs("Attention", "x", x, [-1, -1, -1]);
    const qkv = this.c_attn.forward(x); // [B, T, 3C]
    const y = context.cache ? this.#cached(qkv, context.cache, context.layer ?? 0) : this.#whole(qkv, context);
    return this.c_proj.forward(y, { residual });
  }

  #whole(qkv: FloatTensor, { keyLengths = null }: AttentionContext): FloatTensor {
    // With padding at the end, queries still begin at position 0 (the default would count back from the last key).
    const queryStarts = keyLengths && this.causal ? zeros([qkv.shape[0]!], { dtype: "i32", device: qkv.device }) : null;
    const options = { heads: this.heads, causal: this.causal, keyLengths, queryStarts, ...this.dropout.fused };
    return packedAttention(qkv, options);
  }

  #cached(qkv: FloatTensor, cache: KvCache, layer: number): FloatTensor {
    const [batch, tokens, width] = qkv.shape as [number, number, number];
    const headSize = width / 3 / this.heads;
    const cut = (part: number): FloatTensor =>
      qkv.viewAs(
        [batch, tokens, this.heads, headSize],
        [tokens * width, width, headSize, 1],
        (part * width) / 3,
        false,
      );
    using q = cut(0);
    using k = cut(1);
    using v = cut(2);
    const { keys, values } = cache.write(layer, k, v);
    const y = attention(q, keys, values, {
      causal: this.causal,
      keyLengths: cache.keyLengths,
      queryStarts: cache.starts,
    });
    return reshape(y, [batch, tokens, width / 3]);
  }
}
