import { checkChoice, checkNumber } from "../ops/check.js";
import { scope } from "../scope.js";
import type { FloatTensor } from "../tensor.js";
import type { AttentionContext } from "./attend.js";
import { Attention, type AttentionConfig } from "./attention.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { FeedForward, type FeedForwardConfig } from "./feed-forward.js";
import type { Initializer } from "./init.js";
import { LayerNorm } from "./layer-norm.js";
import { Module } from "./module.js";
import { RmsNorm } from "./rms-norm.js";

export interface TransformerBlockConfig extends AttentionConfig, FeedForwardConfig {
  /** "pre" (GPT-2) norms what goes into each part, "post" (the original Transformer) what comes out. */
  norm?: "pre" | "post";
  /** "layer" unless given; "rms" (Zhang & Sennrich 2019) has no biases. */
  normalization?: Normalization;
  /** Of the norms; 1e-5 unless given. */
  eps?: number;
  /** Of what each part adds to the residual stream. */
  residualDropout?: number;
  /** Factor of what each part adds to the residual stream; 1 unless given. */
  residualScale?: number;
}

/** What the norms of a block compute. */
export type Normalization = "layer" | "rms";
export const normalizations: readonly Normalization[] = ["layer", "rms"];

/** A norm of that kind. `bias` is a layer norm's; an RMS norm has none. */
export function normOf(
  normalization: Normalization,
  { width, bias, eps }: { width: number; bias: boolean; eps: number },
  init: Initializer,
): LayerNorm | RmsNorm {
  return normalization === "rms" ? new RmsNorm({ width, eps }, init) : new LayerNorm({ width, bias, eps }, init);
}

/** Attention and feed-forward, each with a residual connection and a norm. */
export class TransformerBlock extends Module {
  readonly ln_1: LayerNorm | RmsNorm;
  readonly attn: Attention;
  readonly ln_2: LayerNorm | RmsNorm;
  readonly mlp: FeedForward;
  readonly norm: "pre" | "post";
  readonly residualDropout: Dropout;
  readonly residualScale: number;

  constructor(config: TransformerBlockConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { norm = "pre", normalization = "layer", bias = true, eps = 1e-5, residualScale = 1 } = config;
    checkChoice("TransformerBlock", "normalization", normalization, normalizations);
    checkNumber("TransformerBlock", "residualScale", residualScale);
    this.norm = norm;
    this.residualScale = residualScale;
    const makeNorm = (): LayerNorm | RmsNorm => normOf(normalization, { width: config.width, bias, eps }, init);
    this.ln_1 = makeNorm();
    this.attn = new Attention(config, init, seeds);
    this.ln_2 = makeNorm();
    this.mlp = new FeedForward(config, init);
    this.residualDropout = new Dropout(config.residualDropout ?? 0, seeds);
  }

  /** x [B, T, C] → [B, T, C] */
  forward(x: FloatTensor, context: AttentionContext = {}): FloatTensor {
    const { ln_1, attn, ln_2, mlp } = this;
    return scope(() => {
      if (this.norm === "post") {
        const h = ln_1.forward(this.#add(x, (sum) => attn.forward(x, context, sum)));
        return ln_2.forward(this.#add(h, (sum) => mlp.forward(h, sum)));
      }
      const h = this.#add(x, (sum) => attn.forward(ln_1.forward(x), context, sum));
      return this.#add(h, (sum) => mlp.forward(ln_2.forward(h), sum));
    });
  }

  /** x + part, the sum made by the part's last product where nothing comes between. */
  #add(x: FloatTensor, part: (sum: FloatTensor | null) => FloatTensor): FloatTensor {
    return this.residualDropout.residual(x, part, this.residualScale);
  }
}
