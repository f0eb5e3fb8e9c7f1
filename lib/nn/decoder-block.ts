import { scope } from "../scope.js";
import type { FloatTensor } from "../tensor.js";
import type { AttentionContext } from "./attend.js";
import { Attention, type AttentionConfig } from "./attention.js";
import { CrossAttention, type CrossSource } from "./cross-attention.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { FeedForward, type FeedForwardConfig } from "./feed-forward.js";
import type { Initializer } from "./init.js";
import { LayerNorm } from "./layer-norm.js";
import { Module } from "./module.js";

export interface DecoderBlockConfig
  extends Omit<AttentionConfig, "causal" | "layout">, Omit<FeedForwardConfig, "layout"> {
  /** "pre" norms what goes into each part, "post" (the original Transformer) what comes out. */
  norm?: "pre" | "post";
  eps?: number;
  /** Of what each part adds to the residual stream. */
  residualDropout?: number;
}

export interface DecoderContext extends AttentionContext {
  /** The block's keys and values of the source, as its `cross.remember` gives them, and the source's real tokens. */
  source: CrossSource;
}

/**
 * The decoder's block of the original Transformer (Vaswani et al. 2017, fig. 1): causal attention, attention to the
 * source, feed-forward, each with a residual connection and a layer norm.
 */
export class DecoderBlock extends Module {
  readonly ln_1: LayerNorm;
  readonly attn: Attention;
  readonly ln_cross: LayerNorm;
  readonly cross: CrossAttention;
  readonly ln_2: LayerNorm;
  readonly mlp: FeedForward;
  readonly norm: "pre" | "post";
  readonly residualDropout: Dropout;

  constructor(config: DecoderBlockConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.norm = config.norm ?? "pre";
    const norm = { width: config.width, bias: config.bias ?? true, eps: config.eps ?? 1e-5 };
    this.ln_1 = new LayerNorm(norm, init);
    this.attn = new Attention({ ...config, causal: true }, init, seeds);
    this.ln_cross = new LayerNorm(norm, init);
    this.cross = new CrossAttention(config, init, seeds);
    this.ln_2 = new LayerNorm(norm, init);
    this.mlp = new FeedForward(config, init);
    this.residualDropout = new Dropout(config.residualDropout ?? 0, seeds);
  }

  /** x [B, T, C] → [B, T, C] */
  forward(x: FloatTensor, context: DecoderContext): FloatTensor {
    const { residualDropout } = this;
    const attend = (input: FloatTensor, residual: FloatTensor): FloatTensor =>
      residualDropout.residual(residual, (sum) => this.attn.forward(input, context, sum));
    const look = (input: FloatTensor, residual: FloatTensor): FloatTensor =>
      residualDropout.residual(residual, (sum) => this.cross.forward(input, context.source, sum));
    const feed = (input: FloatTensor, residual: FloatTensor): FloatTensor =>
      residualDropout.residual(residual, (sum) => this.mlp.forward(input, sum));
    return scope(() => {
      if (this.norm === "post") {
        const h = this.ln_1.forward(attend(x, x));
        const g = this.ln_cross.forward(look(h, h));
        return this.ln_2.forward(feed(g, g));
      }
      const h = attend(this.ln_1.forward(x), x);
      const g = look(this.ln_cross.forward(h), h);
      return feed(this.ln_2.forward(g), g);
    });
  }
}
