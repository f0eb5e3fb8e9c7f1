import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import type { AttentionContext } from "./attend.js";
import { Attention, type AttentionConfig } from "./attention.js";
import type { Block, BlockParts } from "./block-parts.js";
import { CrossAttention, type CrossSource } from "./cross-attention.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { FeedForward, type FeedForwardConfig } from "./feed-forward.js";
import type { Initializer } from "./init.js";
import { LayerNorm } from "./layer-norm.js";
import { Module } from "./module.js";
import { ResidualStream } from "./residual-stream.js";

/** Configuration of a `DecoderBlock`. */
export interface DecoderBlockConfig
  extends Omit<AttentionConfig, "causal" | "layout">, Omit<FeedForwardConfig, "layout"> {
  /**
   * Place of the norms: "pre" normalises the input of each part, "post" (the original Transformer) the sum after it.
   * @default "pre"
   */
  norm?: "pre" | "post";
  /** Epsilon that every norm adds to the variance. @default 1e-5 */
  eps?: number;
  /** Dropout probability of what each part adds to the residual stream. @default 0 */
  residualDropout?: number;
}

/** Description of a pass's batch that a `DecoderBlock` receives. */
export interface DecoderContext extends AttentionContext {
  /** Keys and values of the source, from this block's `cross.remember`, with the source's lengths. */
  source: CrossSource;
}

/**
 * Decoder block of the original Transformer (Vaswani et al. 2017, fig. 1): causal attention, attention to the source
 * and feed-forward, each with a residual connection and a layer norm.
 *
 * @example
 * const block = new DecoderBlock({ width: 16, heads: 4 }, new Initializer(1, device()), new DropoutSeeds(0));
 * const source = block.cross.remember(randn([2, 9, 16], { seed: 1 }));
 * block.forward(randn([2, 5, 16], { seed: 2 }), { source }).shape; // [2, 5, 16]
 *
 * @see https://arxiv.org/abs/1706.03762
 */
export class DecoderBlock extends Module implements Block {
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

  /** Parts by role. */
  get parts(): BlockParts {
    const { attn, cross, mlp, norm, ln_1, ln_cross, ln_2 } = this;
    const pre = norm === "pre";
    return {
      attention: { ...attn.projections, norm: pre ? ln_1 : null },
      crossAttention: { ...cross.projections, norm: pre ? ln_cross : null },
      feedForward: { ...mlp.projections, norm: pre ? ln_2 : null },
      rotary: attn.rotaryTable !== null,
      norms: norm,
      residualScale: 1,
    };
  }

  /** Returns the block's output [B, T, C] for x [B, T, C]. */
  forward(x: FloatTensor, context: DecoderContext): FloatTensor {
    const { ln_1, attn, ln_cross, cross, ln_2, mlp } = this;
    const { source } = context;
    const stream = new ResidualStream(this.residualDropout, context.observer);
    const [ln1, ln2, ln3, layers] = stream.observers("ln1", "ln2", "ln3", "mlp");
    return scope(() => {
      x = stream.see("hook_resid_pre", x);
      if (this.norm === "post") {
        const mid = stream.add("attn", "mid", x, (sum) => attn.forward(x, context, sum));
        const h = ln_1.forward(mid, ln1);
        const crossed = stream.add("cross_attn", "mid_cross", h, (sum) => cross.forward(h, source, sum));
        const g = ln_cross.forward(crossed, ln2);
        const post = stream.add("mlp", "post", g, (sum) => mlp.forward(g, sum, layers));
        return stream.see("hook_normalized_resid_post", ln_2.forward(post, ln3));
      }
      const h = stream.add("attn", "mid", x, (sum) => attn.forward(ln_1.forward(x, ln1), context, sum));
      const read = (): FloatTensor => ln_cross.forward(h, ln2);
      const g = stream.add("cross_attn", "mid_cross", h, (sum) => cross.forward(read(), source, sum));
      return stream.add("mlp", "post", g, (sum) => mlp.forward(ln_2.forward(g, ln3), sum, layers));
    });
  }
}
