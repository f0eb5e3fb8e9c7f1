import type { AttentionContext } from "../nn/attend.js";
import type { Block, BlockParts } from "../nn/block-parts.js";
import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { GatedFeedForward } from "../nn/gated-feed-forward.js";
import { GroupedAttention, type GroupedAttentionContext } from "../nn/grouped-attention.js";
import { checkComputed, type Initializer } from "../nn/init.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { see } from "../nn/observer.js";
import { ResidualStream } from "../nn/residual-stream.js";
import { RmsNorm } from "../nn/rms-norm.js";
import { rotaryTable } from "../ops/rotary-table.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { CausalDecoder, type DecoderForwardOptions } from "./causal-decoder.js";
import { checkLlamaConfig, type LlamaConfig, windowsOf } from "./llama-config.js";
import { initializerOf, type ModelOptions } from "./model.js";

/** Options of `Llama.forward`. */
export type LlamaForwardOptions = DecoderForwardOptions;

/**
 * Block of a Llama: attention and a gated feed-forward, each with an RMS norm before it and a residual connection.
 *
 * @example
 * const sizes = { vocabularySize: 100, contextLength: 16, layers: 1, heads: 4, width: 16, feedForwardWidth: 48 };
 * const { model } = new Llama(sizes);
 * const block: LlamaBlock = model.layers[0]!;
 * block.forward(randn([2, 5, 16], { seed: 1 }), { table: model.table }).shape; // [2, 5, 16]
 */
export class LlamaBlock extends Module implements Block {
  readonly input_layernorm: RmsNorm;
  readonly self_attn: GroupedAttention;
  readonly post_attention_layernorm: RmsNorm;
  readonly mlp: GatedFeedForward;
  readonly residualDropout: Dropout;

  /** @param window number of tokens that a token sees back from itself, itself included; 0 means all of them */
  constructor(config: Required<LlamaConfig>, window: number, init: Initializer, seeds: DropoutSeeds) {
    super();
    const {
      width,
      feedForwardWidth: hidden,
      activation,
      eps,
      attentionBias,
      feedForwardBias,
      attentionDropout = config.dropout,
    } = config;
    const attention = { ...config, window, bias: attentionBias, dropout: attentionDropout };
    // Each block adds to the residual stream twice. This factor keeps the stream's variance that of one layer
    // (Radford et al. 2019, §2.3).
    const outputStd = 0.02 / Math.sqrt(2 * config.layers);
    this.input_layernorm = new RmsNorm({ width, eps }, init);
    this.self_attn = new GroupedAttention({ ...attention, outputStd }, init, seeds);
    this.post_attention_layernorm = new RmsNorm({ width, eps }, init);
    this.mlp = new GatedFeedForward(
      { width, feedForwardWidth: hidden, activation, bias: feedForwardBias, outputStd },
      init,
    );
    this.residualDropout = new Dropout(config.dropout, seeds);
  }

  /** Parts by role. */
  get parts(): BlockParts {
    const { input_layernorm, self_attn, post_attention_layernorm, mlp } = this;
    return {
      attention: { ...self_attn.projections, norm: input_layernorm },
      crossAttention: null,
      feedForward: { ...mlp.projections, norm: post_attention_layernorm },
      rotary: true,
      norms: "pre",
      residualScale: 1,
    };
  }

  /** Returns the block's output [B, T, C] for x [B, T, C]. */
  forward(x: FloatTensor, context: GroupedAttentionContext): FloatTensor {
    const { input_layernorm: ln_1, self_attn: attn, post_attention_layernorm: ln_2, mlp } = this;
    const stream = new ResidualStream(this.residualDropout, context.observer);
    const [ln1, ln2, layers] = stream.observers("ln1", "ln2", "mlp");
    return scope(() => {
      x = stream.see("hook_resid_pre", x);
      const h = stream.add("attn", "mid", x, (sum) => attn.forward(ln_1.forward(x, ln1), context, sum));
      return stream.add("mlp", "post", h, (sum) => mlp.forward(ln_2.forward(h, ln2), sum, layers));
    });
  }
}

/** Llama without its output projection. */
class LlamaBackbone extends Module {
  readonly embed_tokens: Embedding;
  readonly layers: LlamaBlock[];
  readonly norm: RmsNorm;
  /** Rotary table with the cosines and sines of every position, f32 [positions, R/2, 2]. */
  readonly table: FloatTensor;

  constructor(config: Required<LlamaConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { vocabularySize, contextLength, width, eps } = config;
    const { rotarySize: size, rotaryBase: base, rotaryScaling: scaling } = config;
    this.embed_tokens = new Embedding({ count: vocabularySize, width }, init);
    this.layers = windowsOf(config).map((window) => new LlamaBlock(config, window, init, seeds));
    this.norm = new RmsNorm({ width, eps }, init);
    checkComputed([contextLength, size]);
    this.table = keep(rotaryTable({ size, length: contextLength, base, scaling, device: init.device }));
  }
}

/**
 * Llama (Touvron et al. 2023): a decoder with RMS norms, rotary positions, grouped heads and gated feed-forward layers.
 * Its configuration also covers Mistral, Qwen 2 and Qwen 3. Parameters have the names and layouts of Hugging Face's
 * files.
 *
 * @example
 * const sizes = { vocabularySize: 256, contextLength: 64, layers: 2, heads: 4, kvHeads: 2, width: 32, feedForwardWidth: 96 };
 * const llama = new Llama(sizes, { seed: 1 });
 * llama.forward(tensor(tokenizer.encode("Hello"), [1, 5])).shape; // [1, 5, 256]
 *
 * @see https://arxiv.org/abs/2302.13971
 */
export class Llama extends CausalDecoder<GroupedAttentionContext> {
  readonly model: LlamaBackbone;
  /** Output projection; null if the token embedding is the output projection. */
  readonly lm_head: Linear | null;
  readonly drop: Dropout;
  /** Complete configuration, with every default filled in. */
  readonly config: Required<LlamaConfig>;
  readonly addsPositions = false;
  readonly embeddingScale = 1;

  constructor(config: LlamaConfig, options: ModelOptions = {}) {
    super("Llama", options);
    this.config = checkLlamaConfig(config);
    const { vocabularySize, width, tied, dropout } = this.config;
    const init = initializerOf(options);
    this.model = new LlamaBackbone(this.config, init, this.dropoutSeeds);
    this.drop = new Dropout(dropout, this.dropoutSeeds);
    this.lm_head = tied ? null : new Linear({ inputs: width, outputs: vocabularySize, bias: false }, init);
  }

  get tokens(): Embedding {
    return this.model.embed_tokens;
  }

  get blocks(): readonly LlamaBlock[] {
    return this.model.layers;
  }

  get finalNorm(): RmsNorm {
    return this.model.norm;
  }

  get headSize(): number {
    return this.config.headSize;
  }

  // Packed documents need no positions of their own: scores depend on the distance of rotary positions alone.
  protected contextOf(pass: AttentionContext): GroupedAttentionContext {
    return { ...pass, table: this.model.table };
  }

  protected embed(ids: IntTensor, { observer = null }: LlamaForwardOptions): FloatTensor {
    const words = this.model.embed_tokens.forward(ids, { dtype: this.dtype }); // [B, T, C]
    return this.drop.forward(see(observer, "hook_embed", words));
  }
}
