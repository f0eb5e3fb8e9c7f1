import { HeedError } from "../errors.js";
import { attention } from "../ops/attention.js";
import { checkFloat, checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import { narrow, reshape } from "../ops/views.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface CrossAttentionConfig {
  width: number;
  heads: number;
  bias?: boolean;
  /** Of the attention weights. */
  dropout?: number;
  std?: number;
  /** Standard deviation of the output projection. */
  outputStd?: number;
}

/**
 * Multi-head attention of one sequence to another: queries of the decoder, keys and values of the encoder's output
 * (Vaswani et al. 2017, §3.2.3). Keys and values are in one projection.
 */
export class CrossAttention extends Module {
  readonly q_attn: Linear;
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly dropout: Dropout;
  readonly heads: number;

  constructor(config: CrossAttentionConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    checkObject("CrossAttention", "config", config);
    const { width, heads, bias = true, dropout = 0, std = 0.02, outputStd = std } = config;
    checkInteger("CrossAttention", "heads", heads, 1);
    if (width % heads !== 0)
      throw new HeedError(
        "ERR_SHAPE",
        `CrossAttention: expected width to be a multiple of ${heads} heads, got ${width}`,
      );
    this.heads = heads;
    this.q_attn = new Linear({ inputs: width, outputs: width, bias, std }, init);
    this.c_attn = new Linear({ inputs: width, outputs: 2 * width, bias, std }, init);
    this.c_proj = new Linear({ inputs: width, outputs: width, bias, std: outputStd }, init);
    this.dropout = new Dropout(dropout, seeds);
  }

  /** Keys and values [B, S, H, D] of an encoded source [B, S, C]: the same for every token that looks at it. */
  remember(encoded: FloatTensor): { keys: FloatTensor; values: FloatTensor } {
    checkFloat("CrossAttention", "encoded", encoded);
    checkShapeIs("CrossAttention", "encoded", encoded, [-1, -1, -1]);
    const { heads } = this;
    const [batch, tokens, width] = encoded.shape as [number, number, number];
    const packed = reshape(this.c_attn.forward(encoded), [batch, tokens, 2 * heads, width / heads]);
    return { keys: narrow(packed, 2, 0, heads), values: narrow(packed, 2, heads, heads) };
  }

  /** x [B, T, C] → [B, T, C], with `residual` added if given; `keyLengths` are those of the source. */
  forward(
    x: FloatTensor,
    source: { keys: FloatTensor; values: FloatTensor; keyLengths?: IntTensor | null },
    residual: FloatTensor | null = null,
  ): FloatTensor {
    checkFloat("CrossAttention", "x", x);
    checkShapeIs("CrossAttention", "x", x, [-1, -1, -1]);
    checkObject("CrossAttention", "source", source);
    const { keys, values, keyLengths = null } = source;
    const { heads } = this;
    const [batch, tokens, width] = x.shape as [number, number, number];
    const q = reshape(this.q_attn.forward(x), [batch, tokens, heads, width / heads]);
    const y = attention(q, keys, values, { keyLengths, ...this.dropout.fused }); // [B, T, H, D]
    return this.c_proj.forward(reshape(y, [batch, tokens, width]), { residual });
  }
}
