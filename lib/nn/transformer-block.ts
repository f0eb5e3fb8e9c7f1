import { checkChoice, checkNumber } from "../ops/check.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import type { AttentionContext } from "./attend.js";
import { Attention, type AttentionConfig } from "./attention.js";
import type { Block, BlockParts, StreamNorm } from "./block-parts.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { FeedForward, type FeedForwardConfig } from "./feed-forward.js";
import type { Initializer } from "./init.js";
import { LayerNorm } from "./layer-norm.js";
import { Module } from "./module.js";
import { ResidualStream } from "./residual-stream.js";
import { RmsNorm } from "./rms-norm.js";

/** Configuration of a `TransformerBlock`. */
export interface TransformerBlockConfig extends AttentionConfig, FeedForwardConfig {
  /**
   * Place of the norms: "pre" (GPT-2) normalises the input of each part, "post" (the original Transformer) the sum
   * after it.
   * @default "pre"
   */
  norm?: "pre" | "post";
  /** Kind of the norms; "rms" norms (Zhang & Sennrich 2019) have no biases. @default "layer" */
  normalization?: Normalization;
  /** Epsilon that every norm adds to the variance or mean square. @default 1e-5 */
  eps?: number;
  /** Dropout probability of what each part adds to the residual stream. @default 0 */
  residualDropout?: number;
  /** Factor of what each part adds to the residual stream. @default 1 */
  residualScale?: number;
}

/** Kind of norm: "layer" for layer norms, "rms" for RMS norms. */
export type Normalization = "layer" | "rms";
export const normalizations: readonly Normalization[] = ["layer", "rms"];

/** Creates a norm of the given kind. `bias` matters to layer norms only. */
export function normOf(
  normalization: Normalization,
  { width, bias, eps }: { width: number; bias: boolean; eps: number },
  init: Initializer,
): StreamNorm {
  return normalization === "rms" ? new RmsNorm({ width, eps }, init) : new LayerNorm({ width, bias, eps }, init);
}

/**
 * Transformer block: attention and feed-forward, each with a residual connection and a norm.
 *
 * @example
 * const config = { width: 16, heads: 4, causal: true };
 * const block = new TransformerBlock(config, new Initializer(1, device()), new DropoutSeeds(0));
 * block.forward(randn([2, 5, 16], { seed: 1 })).shape; // [2, 5, 16]
 */
export class TransformerBlock extends Module implements Block {
  readonly ln_1: StreamNorm;
  readonly attn: Attention;
  readonly ln_2: StreamNorm;
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
    const makeNorm = (): StreamNorm => normOf(normalization, { width: config.width, bias, eps }, init);
    this.ln_1 = makeNorm();
    this.attn = new Attention(config, init, seeds);
    this.ln_2 = makeNorm();
    this.mlp = new FeedForward(config, init);
    this.residualDropout = new Dropout(config.residualDropout ?? 0, seeds);
  }

  /** Parts by role. */
  get parts(): BlockParts {
    const { attn, mlp, norm, ln_1, ln_2, residualScale } = this;
    const pre = norm === "pre";
    return {
      attention: { ...attn.projections, norm: pre ? ln_1 : null },
      crossAttention: null,
      feedForward: { ...mlp.projections, norm: pre ? ln_2 : null },
      rotary: attn.rotaryTable !== null,
      norms: norm,
      residualScale,
    };
  }

  /** Returns the block's output [B, T, C] for x [B, T, C]. */
  forward(x: FloatTensor, context: AttentionContext = {}): FloatTensor {
    const { ln_1, attn, ln_2, mlp } = this;
    const stream = new ResidualStream(this.residualDropout, context.observer, this.residualScale);
    const [ln1, ln2, layers] = stream.observers("ln1", "ln2", "mlp");
    return scope(() => {
      x = stream.see("hook_resid_pre", x);
      if (this.norm === "post") {
        const mid = stream.add("attn", "mid", x, (sum) => attn.forward(x, context, sum));
        const h = ln_1.forward(mid, ln1);
        const post = stream.add("mlp", "post", h, (sum) => mlp.forward(h, sum, layers));
        return stream.see("hook_normalized_resid_post", ln_2.forward(post, ln2));
      }
      const mid = stream.add("attn", "mid", x, (sum) => attn.forward(ln_1.forward(x, ln1), context, sum));
      return stream.add("mlp", "post", mid, (sum) => mlp.forward(ln_2.forward(mid, ln2), sum, layers));
    });
  }
}
