import { type Device, device as deviceOf } from "../device.js";
import type { FloatDType } from "../dtype.js";
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
import { rotaryTable } from "../ops/rotary-table.js";
import { keep, scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkPass } from "./check-pass.js";
import { lastTokens } from "./last-tokens.js";
import { checkLlamaConfig, type LlamaConfig } from "./llama-config.js";

export interface LlamaOptions {
  /** Of the first parameters; 0 unless given. */
  seed?: number;
  /** "auto" unless given. */
  device?: Device | string;
  /** Of the parameters, and so of everything; f32 unless given. */
  dtype?: FloatDType;
}

export interface LlamaForwardOptions {
  /** Earlier tokens; `ids` follow them and are added to it. For inference, inside `noGrad()`. */
  cache?: KvCache | null;
  /** With a cache: how many of the ids are real in each sequence; all unless given. */
  counts?: ArrayLike<number>;
  /** i32 [B]: real tokens in each sequence, the rest is padding at its end. Without a cache only. */
  keyLengths?: IntTensor | null;
  /** Logits of each sequence's last real token alone, [B, V]. */
  lastOnly?: boolean;
}

/** Attention and a gated feed-forward, each with an RMS norm before and a residual connection. */
export class LlamaBlock extends Module {
  readonly input_layernorm: RmsNorm;
  readonly self_attn: GroupedAttention;
  readonly post_attention_layernorm: RmsNorm;
  readonly mlp: GatedFeedForward;

  constructor(config: Required<LlamaConfig>, init: Initializer) {
    super();
    const { width, hidden, activation, eps, attentionBias, feedForwardBias } = config;
    // Each block adds to the residual stream twice; its variance stays that of one layer (Radford et al. 2019, §2.3).
    const outputStd = 0.02 / Math.sqrt(2 * config.layers);
    this.input_layernorm = new RmsNorm({ width, eps }, init);
    this.self_attn = new GroupedAttention({ ...config, bias: attentionBias, outputStd }, init);
    this.post_attention_layernorm = new RmsNorm({ width, eps }, init);
    this.mlp = new GatedFeedForward({ width, hidden, activation, bias: feedForwardBias, outputStd }, init);
  }

  /** x [B, T, C] → [B, T, C] */
  forward(x: FloatTensor, context: GroupedAttentionContext): FloatTensor {
    return scope(() => {
      const h = this.self_attn.forward(this.input_layernorm.forward(x), context, x);
      return this.mlp.forward(this.post_attention_layernorm.forward(h), h);
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

  constructor(config: Required<LlamaConfig>, init: Initializer) {
    super();
    const { vocabularySize, contextLength, layers, width, eps } = config;
    const { rotarySize: size, rotaryBase: base, rotaryScaling: scaling } = config;
    this.embed_tokens = new Embedding({ count: vocabularySize, width }, init);
    this.layers = Array.from({ length: layers }, () => new LlamaBlock(config, init));
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
  readonly config: Required<LlamaConfig>;
  /** See CausalModel. */
  readonly recordable = true;

  constructor(config: LlamaConfig, options: LlamaOptions = {}) {
    super();
    this.config = checkLlamaConfig(config);
    checkObject("Llama", "options", options);
    const { seed = 0, dtype = "f32" } = options;
    const { vocabularySize, width, tied } = this.config;
    const init = new Initializer(seed, deviceOf(options.device), dtype);
    this.model = new LlamaBackbone(this.config, init);
    this.lm_head = tied ? null : new Linear({ inputs: width, outputs: vocabularySize, bias: false }, init);
  }

  get device(): Device {
    return this.model.embed_tokens.weight.device;
  }

  get dtype(): FloatDType {
    return this.model.embed_tokens.weight.dtype;
  }

  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: LlamaForwardOptions = {}): FloatTensor {
    checkPass("Llama", ids, options, this.config.contextLength);
    const { cache = null, counts, keyLengths = null, lastOnly = false } = options;
    const { embed_tokens: embed, layers, norm, table } = this.model;
    return scope(() => {
      cache?.begin(ids.shape[1]!, counts);
      let x = embed.forward(ids); // [B, T, C]
      for (const [layer, block] of layers.entries()) {
        const next = block.forward(x, { table, keyLengths, cache, layer });
        x.dispose();
        x = next;
      }
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return linear(norm.forward(x), (this.lm_head ?? embed).weight); // [B, T, V]
    });
  }

  /** Mean cross-entropy in nats per token of predicting targets [B, T] from ids [B, T]. */
  loss(
    ids: IntTensor,
    targets: IntTensor,
    options: CrossEntropyOptions & { keyLengths?: IntTensor | null } = {},
  ): FloatTensor {
    checkObject("Llama", "options", options);
    const { keyLengths = null, ...rest } = options;
    return scope(() => crossEntropy(this.forward(ids, { keyLengths }), targets, rest));
  }

  /** An empty cache for `batch` sequences of up to `length` tokens (the context length unless given). */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    const { layers, kvHeads, headSize, contextLength } = this.config;
    checkInteger("Llama", "length", length, 1, contextLength);
    return new KvCache({ layers, batch, length, heads: kvHeads, headSize, device: this.device, dtype: this.dtype });
  }
}
