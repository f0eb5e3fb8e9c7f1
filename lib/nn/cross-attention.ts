import { checkFloat, checkObject, checkShapeIs } from "../ops/check.js";
import type { FloatTensor } from "../core/tensor.js";
import { type AttentionContext, type AttentionRules, attend } from "./attend.js";
import { type AttentionProjections, packedLayer, wholeLayer } from "./block-parts.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { cutHeads, headSizeOf, type HeadsConfig, splitHeads } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { projectHeads } from "./project-heads.js";

/** Configuration of a `CrossAttention` module. */
export interface CrossAttentionConfig extends Pick<HeadsConfig, "width" | "heads"> {
  /** True if the projections have biases. @default true */
  bias?: boolean;
  /** Probability of dropping an attention weight in training. @default 0 */
  dropout?: number;
  /** Standard deviation of the initial weights. @default 0.02 */
  std?: number;
  /** Standard deviation of the output projection's initial weights. @default std */
  outputStd?: number;
}

/** Keys and values of an encoded source, from `CrossAttention.remember`, with its padding and an observer. */
export interface CrossSource extends Pick<AttentionContext, "keyLengths" | "observer"> {
  /** Keys [B, S, H, D]. */
  keys: FloatTensor;
  /** Values [B, S, H, D]. */
  values: FloatTensor;
}

/**
 * Multi-head attention of one sequence to another (Vaswani et al. 2017, §3.2.3): the decoder gives the queries, the
 * encoder's output gives the keys and values. One projection computes both keys and values.
 *
 * @example
 * const cross = new CrossAttention({ width: 16, heads: 4 }, new Initializer(1, device()), new DropoutSeeds(0));
 * const source = cross.remember(randn([2, 9, 16], { seed: 1 })); // the encoder's output
 * cross.forward(randn([2, 5, 16], { seed: 2 }), source).shape; // [2, 5, 16]
 *
 * @see https://arxiv.org/abs/1706.03762
 */
export class CrossAttention extends Module implements AttentionRules {
  readonly q_attn: Linear;
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly dropout: Dropout;
  readonly heads: number;
  /** Size of a head (D). */
  readonly headSize: number;
  readonly part = "cross_attn";

  constructor(config: CrossAttentionConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    checkObject("CrossAttention", "config", config);
    const { width, heads, bias = true, dropout = 0, std = 0.02, outputStd = std } = config;
    this.heads = heads;
    this.headSize = headSizeOf("CrossAttention", { width, heads });
    this.q_attn = new Linear({ inputs: width, outputs: width, bias, std }, init);
    this.c_attn = new Linear({ inputs: width, outputs: 2 * width, bias, std }, init);
    this.c_proj = new Linear({ inputs: width, outputs: width, bias, std: outputStd }, init);
    this.dropout = new Dropout(dropout, seeds);
  }

  /** Projections by role. */
  get projections(): AttentionProjections {
    const { heads, headSize, q_attn, c_attn, c_proj } = this;
    const [k, v] = packedLayer(c_attn, [heads * headSize, heads * headSize]);
    return { q: wholeLayer(q_attn), k: k!, v: v!, o: wholeLayer(c_proj), heads, kvHeads: heads };
  }

  /** Returns the keys and values [B, S, H, D] of an encoded source [B, S, C], for use with every target token. */
  remember(encoded: FloatTensor): { keys: FloatTensor; values: FloatTensor } {
    checkFloat("CrossAttention", "encoded", encoded);
    checkShapeIs("CrossAttention", "encoded", encoded, [-1, -1, -1]);
    const [keys, values] = cutHeads(this.c_attn.forward(encoded), [this.heads, this.heads]);
    return { keys, values };
  }

  /** Returns the attention's output [B, T, C] for x [B, T, C], plus `residual` [B, T, C] if one is given. */
  forward(x: FloatTensor, source: CrossSource, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("CrossAttention", "x", x);
    checkShapeIs("CrossAttention", "x", x, [-1, -1, -1]);
    checkObject("CrossAttention", "source", source);
    const q = splitHeads(this.q_attn.forward(x), this.heads); // [B, T, H, D]
    const z = attend(q, source.keys, source.values, this, source); // [B, T, C]
    return projectHeads(z, this.c_proj, { heads: this.heads, residual, observer: source.observer?.at(this.part) });
  }
}
