import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { GatedFeedForward } from "../nn/gated-feed-forward.js";
import { GroupedAttention, type GroupedAttentionContext } from "../nn/grouped-attention.js";
import { checkComputed, type Initializer } from "../nn/init.js";
import { KvCache } from "../nn/kv-cache.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { RmsNorm } from "../nn/rms-norm.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { checkInteger, checkObject } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { rotaryTable } from "../ops/rotary-table.js";
import { keep, scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkpointed } from "./checkpointed.js";
import { checkPass, type PassOptions } from "./pass.js";
import { lastTokens } from "./last-tokens.js";
import { checkLlamaConfig, type LlamaConfig, windowsOf } from "./llama-config.js";
import { sequenceMask, type SequenceMaskOptions } from "./sequence-mask.js";
import { initializerOf, Model, type ModelOptions } from "./model.js";

export interface LlamaForwardOptions extends SequenceMaskOptions, PassOptions {}

/** Attention and a gated feed-forward, each with an RMS norm before and a residual connection. */
export class LlamaBlock extends Module {
  readonly input_layernorm: RmsNorm;
  readonly self_attn: GroupedAttention;
  readonly post_attention_layernorm: RmsNorm;
  readonly mlp: GatedFeedForward;
  readonly residualDropout: Dropout;

  /** `window`: how many of the last tokens a token sees; 0, all of them. */
  constructor(config: Required<LlamaConfig>, window: number, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, hidden, activation, eps, attentionBias, feedForwardBias } = config;
    // Each block adds to the residual stream twice; its variance stays that of one layer (Radford et al. 2019, §2.3).
    const outputStd = 0.02 / Math.sqrt(2 * config.layers);
    this.input_layernorm = new RmsNorm({ width, eps }, init);
    this.self_attn = new GroupedAttention({ ...config, window, bias: attentionBias, outputStd }, init, seeds);
    this.post_attention_layernorm = new RmsNorm({ width, eps }, init);
    this.mlp = new GatedFeedForward({ width, hidden, activation, bias: feedForwardBias, outputStd }, init);
    this.residualDropout = new Dropout(config.dropout, seeds);
  }

  /** x [B, T, C] → [B, T, C] */
  forward(x: FloatTensor, context: GroupedAttentionContext): FloatTensor {
    return scope(() => {
      const { residualDropout: drop } = this;
      const attended = this.input_layernorm.forward(x);
      const h = drop.residual(x, (sum) => this.self_attn.forward(attended, context, sum));
      const fed = this.post_attention_layernorm.forward(h);
      return drop.residual(h, (sum) => this.mlp.forward(fed, sum));
    });
  }
}

/** All but the output projection. */
class LlamaBackbone extends Module {
  readonly embed_tokens: Embedding;
  readonly layers: LlamaBlock[];
  readonly norm: RmsNorm;
  /** Cosines and sines of every position. */
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
 * The Llama family (Touvron et al. 2023): RMS norms, rotary positions, grouped heads, gated feed-forward; with options of
 * its configuration also Mistral, Qwen 2 and Qwen 3. Parameters have the names and layouts of Hugging Face's checkpoints.
 */
export class Llama extends Model {
  readonly model: LlamaBackbone;
  /** null where the token embedding is the output projection. */
  readonly lm_head: Linear | null;
  readonly drop: Dropout;
  readonly config: Required<LlamaConfig>;
  /** See CausalModel. */
  readonly recordable = true;
  /**
   * Whether training keeps the input of each block alone, and computes the rest of it again in the backward pass (Chen et
   * al. 2016): the same gradients for less memory and about a third more time.
   */
  gradientCheckpointing = false;

  constructor(config: LlamaConfig, options: ModelOptions = {}) {
    super("Llama", options);
    this.config = checkLlamaConfig(config);
    const { vocabularySize, width, tied, dropout } = this.config;
    const init = initializerOf(options);
    this.model = new LlamaBackbone(this.config, init, this.dropoutSeeds);
    this.drop = new Dropout(dropout, this.dropoutSeeds);
    this.lm_head = tied ? null : new Linear({ inputs: width, outputs: vocabularySize, bias: false }, init);
  }

  protected get tokens(): Embedding {
    return this.model.embed_tokens;
  }

  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: LlamaForwardOptions = {}): FloatTensor {
    return scope(() => logitsOf(this.#states(ids, options), this.#projection)); // [B, T, V]
  }

  /** What is projected to logits: [B, T, C], or [B, C] with `lastOnly`. */
  #states(ids: IntTensor, options: LlamaForwardOptions): FloatTensor {
    checkPass("Llama", ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, observer = null } = options;
    const [batch, tokens] = ids.shape as [number, number];
    const { embed_tokens: embed, layers, norm, table } = this.model;
    return scope(() => {
      // Rotary positions say how far apart tokens are, which is the same wherever a document begins.
      const mask = sequenceMask("Llama", options, { batch, tokens, device: this.device });
      cache?.begin(tokens, counts);
      let x = this.drop.forward(embed.forward(ids, { dtype: this.dtype })); // [B, T, C]
      for (const [layer, block] of layers.entries()) {
        const context = { ...mask, table, cache, layer, observer: observer?.at(`blocks.${layer}`) ?? null };
        const next = checkpointed(this, block, x, context);
        x.dispose();
        x = next;
      }
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return norm.forward(x);
    });
  }

  /** Mean cross-entropy in nats per token of predicting targets [B, T] from ids [B, T]. */
  loss(ids: IntTensor, targets: IntTensor, options: CrossEntropyOptions & SequenceMaskOptions = {}): FloatTensor {
    checkObject("Llama", "options", options);
    const { keyLengths = null, documents = null, prefixLengths = null, blocks = null, ...rest } = options;
    const masks = { keyLengths, documents, prefixLengths, blocks };
    return scope(() => logitsLoss(this.#states(ids, masks), this.#projection, targets, rest));
  }

  get #projection(): OutputProjection {
    return this.lm_head ?? this.model.embed_tokens;
  }

  /** An empty cache for `batch` sequences of up to `length` tokens (the context length unless given). */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    const { layers, kvHeads, headSize, contextLength } = this.config;
    checkInteger("Llama", "length", length, 1, contextLength);
    return new KvCache({ layers, batch, length, heads: kvHeads, headSize, device: this.device, dtype: this.dtype });
  }
}
