import { checkFloat, checkObject, checkShapeIs } from "../ops/check.js";
import type { FloatTensor } from "../tensor.js";
import { type AttentionContext, type AttentionRules, attend } from "./attend.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { cutHeads, headSizeOf, type HeadsConfig, splitHeads } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface CrossAttentionConfig extends Pick<HeadsConfig, "width" | "heads"> {
  bias?: boolean;
  /** Of the attention weights. */
  dropout?: number;
  std?: number;
  /** Standard deviation of the output projection. */
  outputStd?: number;
}

/** Keys and values of a source, as `remember` returns them. */
export interface CrossSource extends Pick<AttentionContext, "keyLengths" | "observer"> {
  keys: FloatTensor;
  values: FloatTensor;
}

/**
 * Multi-head attention of one sequence to another: queries of the decoder, keys and values of the encoder's output
 * (Vaswani et al. 2017, §3.2.3). Keys and values are in one projection.
 */
export class CrossAttention extends Module implements AttentionRules {
  readonly q_attn: Linear;
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly dropout: Dropout;
  readonly heads: number;
  readonly part = "cross_attn";

  constructor(config: CrossAttentionConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    checkObject("CrossAttention", "config", config);
    const { width, heads, bias = true, dropout = 0, std = 0.02, outputStd = std } = config;
    headSizeOf("CrossAttention", { width, heads });
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
    const [keys, values] = cutHeads(this.c_attn.forward(encoded), [this.heads, this.heads]);
    return { keys, values };
  }

  /** x [B, T, C] → [B, T, C], with `residual` added if given. */
  forward(x: FloatTensor, source: CrossSource, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("CrossAttention", "x", x);
    checkShapeIs("CrossAttention", "x", x, [-1, -1, -1]);
    checkObject("CrossAttention", "source", source);
    const q = splitHeads(this.q_attn.forward(x), this.heads); // [B, T, H, D]
    const z = attend(q, source.keys, source.values, this, source); // [B, T, C]
    return this.c_proj.forward(z, { residual });
  }
}
