import { type Device, device as deviceOf } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { Dropout, DropoutSeeds } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { GatedFeedForward } from "../nn/gated-feed-forward.js";
import { GroupedAttention, type GroupedAttentionContext } from "../nn/grouped-attention.js";
import { Initializer } from "../nn/init.js";
import { KvCache } from "../nn/kv-cache.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { RmsNorm } from "../nn/rms-norm.js";
import { checkInteger, checkObject } from "../ops/check.js";
import { crossEntropy, type CrossEntropyOptions } from "../ops/cross-entropy.js";
import { linear } from "../ops/linear.js";
import { checkRounding } from "../ops/precision.js";
import { rotaryTable } from "../ops/rotary-table.js";
import { keep, scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkPass } from "./check-pass.js";
import { lastTokens } from "./last-tokens.js";
import { checkLlamaConfig, type LlamaConfig } from "./llama-config.js";
import { sequenceMask, type SequenceMaskOptions } from "./sequence-mask.js";

export interface LlamaOptions {
  /** Of the first parameters and of dropout; 0 unless given. */
  seed?: number;
  /** "auto" unless given. */
  device?: Device | string;
  /** Of the parameters, and so of everything; f32 unless given. For training, see `Llama.dtype`. */
  dtype?: FloatDType;
}

export interface LlamaForwardOptions extends SequenceMaskOptions {
  /** Earlier tokens; `ids` follow them and are added to it. For inference, inside `noGrad()`. */
  cache?: KvCache | null;
  /** With a cache: how many of the ids are real in each sequence; all unless given. */
  counts?: ArrayLike<number>;
  /** Logits of each sequence's last real token alone, [B, V]. */
  lastOnly?: boolean;
}

/** Attention and a gated feed-forward, each with an RMS norm before and a residual connection. */
export class LlamaBlock extends Module {
  readonly input_layernorm: RmsNorm;
  readonly self_attn: GroupedAttention;
  readonly post_attention_layernorm: RmsNorm;
  readonly mlp: GatedFeedForward;
  readonly residualDropout: Dropout;

  constructor(config: Required<LlamaConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, hidden, activation, eps, attentionBias, feedForwardBias } = config;
    // Each block adds to the residual stream twice; its variance stays that of one layer (Radford et al. 2019, §2.3).
    const outputStd = 0.02 / Math.sqrt(2 * config.layers);
    this.input_layernorm = new RmsNorm({ width, eps }, init);
    this.self_attn = new GroupedAttention({ ...config, bias: attentionBias, outputStd }, init, seeds);
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
    const { vocabularySize, contextLength, layers, width, eps } = config;
    const { rotarySize: size, rotaryBase: base, rotaryScaling: scaling } = config;
    this.embed_tokens = new Embedding({ count: vocabularySize, width }, init);
    this.layers = Array.from({ length: layers }, () => new LlamaBlock(config, init, seeds));
    this.norm = new RmsNorm({ width, eps }, init);
    this.table = keep(rotaryTable({ size, length: contextLength, base, scaling, device: init.device }));
  }
}

/**
 * The Llama family (Touvron et al. 2023): RMS norms, rotary positions, grouped heads, gated feed-forward; with options of
 * its configuration also Mistral, Qwen 2 and Qwen 3. Parameters have the names and layouts of Hugging Face's checkpoints.
 */
export class Llama extends Module {
  readonly model: LlamaBackbone;
  /** null where the token embedding is the output projection. */
  readonly lm_head: Linear | null;
  readonly drop: Dropout;
  readonly config: Required<LlamaConfig>;
  #activations: FloatDType = "f32";
  /** Where dropout draws from; the trainer sets its step. */
  readonly dropoutSeeds: DropoutSeeds;
  /** See CausalModel. */
  readonly recordable = true;

  constructor(config: LlamaConfig, options: LlamaOptions = {}) {
    super();
    this.config = checkLlamaConfig(config);
    checkObject("Llama", "options", options);
    const { seed = 0, dtype = "f32" } = options;
    checkRounding("Llama", "f32", dtype);
    const { vocabularySize, width, tied, dropout } = this.config;
    const init = new Initializer(seed, deviceOf(options.device), dtype);
    this.dropoutSeeds = new DropoutSeeds(seed);
    this.model = new LlamaBackbone(this.config, init, this.dropoutSeeds);
    this.drop = new Dropout(dropout, this.dropoutSeeds);
    this.lm_head = tied ? null : new Linear({ inputs: width, outputs: vocabularySize, bias: false }, init);
  }

  get device(): Device {
    return this.model.embed_tokens.weight.device;
  }

  /** Of the activations and logits: see `GPT.dtype`. */
  get dtype(): FloatDType {
    const parameters = this.model.embed_tokens.weight.dtype;
    return parameters === "f32" ? this.#activations : parameters;
  }

  set dtype(dtype: FloatDType) {
    checkRounding("Llama", this.model.embed_tokens.weight.dtype, dtype);
    this.#activations = dtype;
  }

  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: LlamaForwardOptions = {}): FloatTensor {
    checkPass("Llama", ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false } = options;
    const [batch, tokens] = ids.shape as [number, number];
    const { embed_tokens: embed, layers, norm, table } = this.model;
    return scope(() => {
      // Rotary positions say how far apart tokens are, which is the same wherever a document begins.
      const mask = sequenceMask("Llama", options, { batch, tokens, device: this.device });
      cache?.begin(tokens, counts);
      let x = this.drop.forward(embed.forward(ids, { dtype: this.dtype })); // [B, T, C]
      for (const [layer, block] of layers.entries()) {
        const next = block.forward(x, { ...mask, table, cache, layer });
        x.dispose();
        x = next;
      }
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return linear(norm.forward(x), (this.lm_head ?? embed).weight); // [B, T, V]
    });
  }

  /** Mean cross-entropy in nats per token of predicting targets [B, T] from ids [B, T]. */
  loss(ids: IntTensor, targets: IntTensor, options: CrossEntropyOptions & SequenceMaskOptions = {}): FloatTensor {
    checkObject("Llama", "options", options);
    const { keyLengths = null, documents = null, prefixLengths = null, blocks = null, ...rest } = options;
    const masks = { keyLengths, documents, prefixLengths, blocks };
    return scope(() => crossEntropy(this.forward(ids, masks), targets, rest));
  }

  /** An empty cache for `batch` sequences of up to `length` tokens (the context length unless given). */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    const { layers, kvHeads, headSize, contextLength } = this.config;
    checkInteger("Llama", "length", length, 1, contextLength);
    return new KvCache({ layers, batch, length, heads: kvHeads, headSize, device: this.device, dtype: this.dtype });
  }
}
