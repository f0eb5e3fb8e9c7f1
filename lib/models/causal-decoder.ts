import type { AttentionContext } from "../nn/attend.js";
import { KvCache } from "../nn/kv-cache.js";
import type { Linear } from "../nn/linear.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { checkInteger, checkObject } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkpointed } from "./checkpointed.js";
import { lastTokens } from "./last-tokens.js";
import { Model } from "./model.js";
import { checkPass, type ObserverOption, type PassOptions } from "./pass.js";
import { sequenceMask, type SequenceMaskOptions } from "./sequence-mask.js";

export interface DecoderForwardOptions extends SequenceMaskOptions, PassOptions {}

/** x [B, T, C] → [B, T, C] */
interface Block<Context> {
  forward(x: FloatTensor, context: Context): FloatTensor;
}

/**
 * A decoder alone, which predicts the next token: embeddings, blocks of causal attention one after the other, a norm, and
 * a projection to logits. `Context` is what its blocks are told.
 */
export abstract class CausalDecoder<Context extends AttentionContext = AttentionContext> extends Model {
  abstract readonly config: {
    readonly vocabularySize: number;
    readonly contextLength: number;
    readonly layers: number;
    readonly kvHeads: number;
  };
  /** null where the token embedding is the output projection. */
  abstract readonly lm_head: Linear | null;
  /** See CausalModel. */
  readonly recordable = true;
  /**
   * Whether training keeps the input of each block alone, and computes the rest of it again in the backward pass (Chen et
   * al. 2016): the same gradients for less memory and about a third more time.
   */
  gradientCheckpointing = false;

  protected abstract get blocks(): readonly Block<Context>[];
  /** The norm behind the last block: [..., C] → [..., C] */
  protected abstract get finalNorm(): { forward(x: FloatTensor): FloatTensor };
  /** D, of keys and values. */
  protected abstract get headSize(): number;
  /** ids [B, T] → what goes into the first block, [B, T, C] */
  protected abstract embed(ids: IntTensor, options: DecoderForwardOptions): FloatTensor;
  /** Returns what one block is told about a pass. */
  protected abstract contextOf(pass: AttentionContext): Context;

  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: DecoderForwardOptions = {}): FloatTensor {
    return scope(() => logitsOf(this.#states(ids, options), this.#projection));
  }

  /** Mean cross-entropy in nats per token of predicting targets [B, T] from ids [B, T]. */
  loss(
    ids: IntTensor,
    targets: IntTensor,
    options: CrossEntropyOptions & SequenceMaskOptions & ObserverOption = {},
  ): FloatTensor {
    checkObject(this.name, "options", options);
    const { keyLengths = null, documents = null, prefixLengths = null, blocks = null, observer = null } = options;
    const pass = { keyLengths, documents, prefixLengths, blocks, observer };
    return scope(() => logitsLoss(this.#states(ids, pass), this.#projection, targets, options));
  }

  /** Returns an empty cache for `batch` sequences of up to `length` tokens, by default as many as the context has. */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    const { headSize, device, dtype } = this;
    const { layers, kvHeads: heads, contextLength } = this.config;
    checkInteger(this.name, "length", length, 1, contextLength);
    return new KvCache({ layers, batch, length, heads, headSize, device, dtype });
  }

  /** Returns the states that are projected to logits: [B, T, C], or [B, C] with `lastOnly`. */
  #states(ids: IntTensor, options: DecoderForwardOptions): FloatTensor {
    checkPass(this.name, ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, observer = null } = options;
    const [batch, tokens] = ids.shape as [number, number];
    return scope(() => {
      const mask = sequenceMask(this.name, options, { batch, tokens, device: this.device });
      cache?.begin(tokens, counts);
      let x = this.embed(ids, options); // [B, T, C]
      for (const [layer, block] of this.blocks.entries()) {
        const context = { ...mask, cache, layer, observer: observer?.at(`blocks.${layer}`) ?? null };
        const next = checkpointed(this, block, x, this.contextOf(context));
        x.dispose();
        x = next;
      }
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return this.finalNorm.forward(x);
    });
  }

  get #projection(): OutputProjection {
    return this.lm_head ?? this.tokens;
  }
}
