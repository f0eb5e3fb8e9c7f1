import { add } from "../ops/binary.js";
import { scope } from "../scope.js";
import type { FloatTensor } from "../tensor.js";
import { Attention, type AttentionConfig, type AttentionContext } from "./attention.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { FeedForward, type FeedForwardConfig } from "./feed-forward.js";
import type { Initializer } from "./init.js";
import { LayerNorm } from "./layer-norm.js";
import { Module } from "./module.js";

export interface TransformerBlockConfig extends AttentionConfig, FeedForwardConfig {
  /** "pre" (GPT-2) norms what goes into each part, "post" (the original Transformer) what comes out. */
  norm?: "pre" | "post";
  eps?: number;
  /** Of what each part adds to the residual stream. */
  residualDropout?: number;
}

/** Attention and feed-forward, each with a residual connection and a layer norm. */
export class TransformerBlock extends Module {
  readonly ln_1: LayerNorm;
  readonly attn: Attention;
  readonly ln_2: LayerNorm;
  readonly mlp: FeedForward;
  readonly norm: "pre" | "post";
  readonly residualDropout: Dropout;

  constructor(config: TransformerBlockConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.norm = config.norm ?? "pre";
    const norm = { width: config.width, bias: config.bias ?? true, eps: config.eps ?? 1e-5 };
    this.ln_1 = new LayerNorm(norm, init);
    this.attn = new Attention(config, init, seeds);
    this.ln_2 = new LayerNorm(norm, init);
    this.mlp = new FeedForward(config, init);
    this.residualDropout = new Dropout(config.residualDropout ?? 0, seeds);
  }

  /** x [B, T, C] → [B, T, C] */
  forward(x: FloatTensor, context: AttentionContext = {}): FloatTensor {
    const attend = (input: FloatTensor, residual: FloatTensor): FloatTensor =>
      this.#residual(residual, (sum) => this.attn.forward(input, context, sum));
    const feed = (input: FloatTensor, residual: FloatTensor): FloatTensor =>
      this.#residual(residual, (sum) => this.mlp.forward(input, sum));
    return scope(() => {
      if (this.norm === "post") {
        const h = this.ln_1.forward(attend(x, x));
        return this.ln_2.forward(feed(h, h));
      }
      const h = attend(this.ln_1.forward(x), x);
      return feed(this.ln_2.forward(h), h);
    });
  }

  /** residual + part, the sum fused into the part's last product unless dropout comes between. */
  #residual(residual: FloatTensor, part: (residual: FloatTensor | null) => FloatTensor): FloatTensor {
    const { training, p } = this.residualDropout;
    return training && p > 0 ? add(residual, this.residualDropout.forward(part(null))) : part(residual);
  }
}
