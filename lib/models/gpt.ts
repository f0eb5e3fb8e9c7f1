import type { AttentionContext } from "../nn/attend.js";
import { Dropout } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { checkComputed } from "../nn/init.js";
import { KvCache } from "../nn/kv-cache.js";
import type { LayerNorm } from "../nn/layer-norm.js";
import { Linear } from "../nn/linear.js";
import { PositionEmbedding } from "../nn/position-embedding.js";
import type { RmsNorm } from "../nn/rms-norm.js";
import { normOf, TransformerBlock } from "../nn/transformer-block.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { mul } from "../ops/binary.js";
import { checkInteger, checkObject } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { rotaryTable } from "../ops/rotary-table.js";
import { keep, scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkGptConfig, type GptConfig } from "./gpt-config.js";
import { checkpointed } from "./checkpointed.js";
import { checkPass, type PassOptions } from "./pass.js";
import { lastTokens } from "./last-tokens.js";
import { sequenceMask, type SequenceMaskOptions } from "./sequence-mask.js";
import { initializerOf, Model, type ModelOptions } from "./model.js";

export interface GptForwardOptions extends SequenceMaskOptions, PassOptions {}

/**
 * GPT-2 (Radford et al. 2019): token and position embeddings, pre-norm blocks, a final norm, and the token embedding
 * again as the output projection. Parameters have the names and layouts of GPT-2's published checkpoints. Options of the
 * configuration exchange its parts for others: positions, norms, feed-forward, heads, and what attention sees.
 */
export class GPT extends Model {
  readonly wte: Embedding;
  /** null unless positions are learned or sinusoidal. */
  readonly wpe: PositionEmbedding | null;
  readonly drop: Dropout;
  readonly h: TransformerBlock[];
  readonly ln_f: LayerNorm | RmsNorm;
  /** null where the token embedding is the output projection. */
  readonly lm_head: Linear | null;
  readonly config: Required<GptConfig>;
  /** See CausalModel. */
  readonly recordable = true;
  /**
   * Whether training keeps the input of each block alone, and computes the rest of it again in the backward pass (Chen et
   * al. 2016): the same gradients for less memory and about a third more time.
   */
  gradientCheckpointing = false;

  constructor(config: GptConfig, options: ModelOptions = {}) {
    super("GPT", options);
    this.config = checkGptConfig(config);
    const { vocabularySize, contextLength, layers, heads, width, bias, eps, dropout } = this.config;
    const { positions, normalization, scaleAttention, scaleAttentionByLayer } = this.config;
    const init = initializerOf(options);
    const turned = { size: 2 * Math.floor(width / heads / 2), length: contextLength, device: init.device };
    if (positions === "rotary") checkComputed([turned.length, turned.size]);
    const rotary = positions === "rotary" ? { table: keep(rotaryTable(turned)) } : null;
    const block = {
      ...this.config,
      causal: true,
      residualDropout: dropout,
      alibi: positions === "alibi",
      rotary,
      layout: "io",
      // Each block adds to the residual stream twice; its variance stays that of one layer (Radford et al. 2019, §2.3).
      outputStd: 0.02 / Math.sqrt(2 * layers),
    } as const;
    this.wte = new Embedding({ count: vocabularySize, width }, init);
    const added = positions === "learned" || positions === "sinusoidal";
    const sinusoids = positions === "sinusoidal" ? {} : null;
    this.wpe = added ? new PositionEmbedding({ length: contextLength, width, sinusoids }, init) : null;
    this.drop = new Dropout(dropout, this.dropoutSeeds);
    this.h = Array.from({ length: layers }, (_, layer) => {
      const scale = (scaleAttention ? 1 / Math.sqrt(width / heads) : 1) / (scaleAttentionByLayer ? layer + 1 : 1);
      return new TransformerBlock({ ...block, scale }, init, this.dropoutSeeds);
    });
    this.ln_f = normOf(normalization, { width, bias, eps }, init);
    this.lm_head = this.config.tied ? null : new Linear({ inputs: width, outputs: vocabularySize, bias: false }, init);
  }

  protected get tokens(): Embedding {
    return this.wte;
  }

  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: GptForwardOptions = {}): FloatTensor {
    return scope(() => logitsOf(this.#states(ids, options), this.#projection)); // [B, T, V]
  }

  /** What is projected to logits: [B, T, C], or [B, C] with `lastOnly`. */
  #states(ids: IntTensor, options: GptForwardOptions): FloatTensor {
    checkPass("GPT", ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, observer = null } = options;
    const [batch, tokens] = ids.shape as [number, number];
    return scope(() => {
      const mask = sequenceMask("GPT", options, { batch, tokens, device: this.device });
      cache?.begin(tokens, counts);
      let x = this.drop.forward(this.#embed(ids, cache, options.documents ?? null)); // [B, T, C]
      for (const [layer, block] of this.h.entries()) {
        const context = { ...mask, cache, layer, observer: observer?.at(`blocks.${layer}`) ?? null };
        const next = checkpointed<AttentionContext>(this, block, x, context);
        x.dispose();
        x = next;
      }
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return this.ln_f.forward(x);
    });
  }

  /** Mean cross-entropy in nats per token of predicting targets [B, T] from ids [B, T]. */
  loss(ids: IntTensor, targets: IntTensor, options: CrossEntropyOptions & SequenceMaskOptions = {}): FloatTensor {
    checkObject("GPT", "options", options);
    const { keyLengths = null, documents = null, prefixLengths = null, blocks = null, ...rest } = options;
    const masks = { keyLengths, documents, prefixLengths, blocks };
    return scope(() => logitsLoss(this.#states(ids, masks), this.#projection, targets, rest));
  }

  get #projection(): OutputProjection {
    return this.lm_head ?? this.wte;
  }

  /** An empty cache for `batch` sequences of up to `length` tokens (the context length unless given). */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    const { layers, heads, kvHeads, width, contextLength } = this.config;
    checkInteger("GPT", "length", length, 1, contextLength);
    return new KvCache({
      layers,
      batch,
      length,
      heads: kvHeads,
      headSize: width / heads,
      device: this.device,
      dtype: this.dtype,
    });
  }

  #embed(ids: IntTensor, cache: KvCache | null, documents: readonly ArrayLike<number>[] | null): FloatTensor {
    const { dtype, wpe } = this;
    const { embeddingScale: scale } = this.config;
    const embedded = this.wte.forward(ids, { dtype }); // [B, T, C]
    const words = scale === 1 ? embedded : mul(embedded, scale);
    return wpe ? wpe.forward(words, { cache, documents }) : words;
  }
}
