import type { AttentionContext } from "../nn/attend.js";
import type { AttentionCache } from "../nn/attention-cache.js";
import type { Block, BlockStack, StreamNorm } from "../nn/block-parts.js";
import { KvCache } from "../nn/kv-cache.js";
import { KvPages, type KvType } from "../nn/kv-pages.js";
import { lastTokens } from "../nn/last-tokens.js";
import type { Linear } from "../nn/linear.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { checkInteger, checkObject } from "../ops/check.js";
import { embedding } from "../ops/embedding.js";
import { reshape } from "../ops/views.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkpointed } from "./checkpointed.js";
import { Model } from "./model.js";
import { checkPass, type ObserverOption, type PassOptions } from "./pass.js";
import { sequenceMask, type SequenceMaskOptions } from "./sequence-mask.js";

/** Options of a causal decoder's `forward`. */
export interface DecoderForwardOptions extends SequenceMaskOptions, PassOptions<AttentionCache> {}

/** Sizes that every decoder's configuration has. */
export interface DecoderSizes {
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly width: number;
  /** Width of the feed-forward network. */
  readonly feedForwardWidth: number;
  /** Number of tokens that a token sees back from itself, itself included; 0 means all of them. */
  readonly window: number;
  /** Dropout probability. */
  readonly dropout: number;
}

/** Block of a decoder-only model. */
export interface CausalBlock<Context> extends Block {
  /** Returns the block's output [B, T, C] for x [B, T, C]. */
  forward(x: FloatTensor, context: Context): FloatTensor;
}

/**
 * Decoder-only model that predicts the next token: embeddings, blocks of causal attention, a norm and a projection to
 * logits. All that trains, serves, adapts, inspects and saves decoders uses this class, whatever the family. `Context`
 * is the type of the description of a pass that its blocks receive.
 *
 * @example
 * const decoder: CausalDecoder = gpt;
 * const { q, o } = decoder.blocks[0]!.parts.attention;
 * [q.end - q.begin, o.layer.outputs]; // [16, 16]: the queries' and the attention's outputs
 */
export abstract class CausalDecoder<Context extends AttentionContext = AttentionContext>
  extends Model
  implements BlockStack
{
  abstract readonly config: DecoderSizes;
  /** Output projection; null if the token embedding is the output projection. */
  abstract readonly lm_head: Linear | null;
  /** True: generation may record a pass of one token and replay it; see `CausalModel.recordable`. */
  readonly recordable = true;
  /**
   * True if training keeps only the input of each block and computes the rest again in the backward pass (Chen et al.
   * 2016). It gives the same gradients with less memory and about a third more time.
   * @default false
   * @see https://arxiv.org/abs/1604.06174
   */
  gradientCheckpointing = false;

  /** Blocks, from the first to the last. */
  abstract get blocks(): readonly CausalBlock<Context>[];
  /** Norm that follows the last block. */
  abstract get finalNorm(): StreamNorm;
  /** Size of a head of keys and values (D). */
  abstract get headSize(): number;
  /** True if vectors of positions are added to the embedded tokens. */
  abstract readonly addsPositions: boolean;
  /** Factor of the embedded tokens. */
  abstract readonly embeddingScale: number;
  /** Returns the input of the first block, [B, T, C], for ids i32 [B, T]. */
  protected abstract embed(ids: IntTensor, options: DecoderForwardOptions): FloatTensor;
  /** Returns the description of a pass that each block receives. */
  protected abstract contextOf(pass: AttentionContext): Context;

  /**
   * Returns the logits of the next token after each of ids i32 [B, T]: [B, T, V], or [B, V] with `lastOnly`.
   *
   * @example
   * gpt.forward(tensor([[72, 101, 108]], [1, 3], { dtype: "i32" })).shape; // [1, 3, 256]
   *
   * @throws ERR_SHAPE if T is 0 or above `contextLength`, or an option's shape does not fit.
   * @throws ERR_RANGE if the tokens do not fit into the cache.
   */
  forward(ids: IntTensor, options: DecoderForwardOptions = {}): FloatTensor {
    return scope(() => logitsOf(this.states(ids, options), this.projection));
  }

  /**
   * Returns the mean cross-entropy, in nats per token, of predicting targets i32 [B, T] from ids i32 [B, T].
   *
   * @example
   * const ids = tensor(tokenizer.encode("abc"), [1, 3]);
   * const loss = gpt.loss(ids, tensor(tokenizer.encode("bcd"), [1, 3]));
   * loss.backward();
   */
  loss(
    ids: IntTensor,
    targets: IntTensor,
    options: CrossEntropyOptions & SequenceMaskOptions & ObserverOption = {},
  ): FloatTensor {
    checkObject(this.name, "options", options);
    const { keyLengths = null, documents = null, prefixLengths = null, blocks = null, observer = null } = options;
    const pass = { keyLengths, documents, prefixLengths, blocks, observer };
    return scope(() => logitsLoss(this.states(ids, pass), this.projection, targets, options));
  }

  /** Returns an empty cache for `batch` sequences of up to `length` tokens, by default `contextLength`. */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    const { headSize, device, dtype } = this;
    const { layers, kvHeads: heads, contextLength } = this.config;
    checkInteger(this.name, "length", length, 1, contextLength);
    return new KvCache({ layers, batch, length, heads, headSize, device, dtype });
  }

  /** @internal Returns memory for the keys and values of sequences in `pages` pages of `pageSize` tokens. */
  createPages(pages: number, pageSize: number, kvType: KvType | null = null): KvPages {
    const { headSize, device, dtype } = this;
    const { layers, kvHeads: heads } = this.config;
    return new KvPages({ layers, pages, pageSize, heads, headSize, device, dtype, kvType });
  }

  /**
   * Returns the states after the last norm, which are projected to logits, for ids i32 [B, T]: [B, T, C], or [B, C] with
   * `lastOnly`, or [R, C] with `rows`.
   *
   * @example
   * gpt.states(tensor([[72, 101, 108]], [1, 3], { dtype: "i32" })).shape; // [1, 3, 16]
   *
   * @throws ERR_SHAPE or ERR_RANGE as `forward` does.
   */
  states(ids: IntTensor, options: DecoderForwardOptions = {}): FloatTensor {
    checkPass(this.name, ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, rows = null, observer = null } = options;
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
      if (rows)
        x = embedding(rows, reshape(x, [batch * tokens, x.shape[2]!])); // [R, C]
      else if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return this.finalNorm.forward(x, observer?.at("ln_final"));
    });
  }

  /**
   * Returns the logits [..., V] that follow from a residual stream x [..., C]: the last norm and the projection. An
   * observer sees `ln_final`.
   *
   * @example
   * gpt.unembed(randn([2, 16], { seed: 1 })).shape; // [2, 256]
   */
  unembed(x: FloatTensor, { observer = null }: ObserverOption = {}): FloatTensor {
    return scope(() => logitsOf(this.finalNorm.forward(x, observer?.at("ln_final")), this.projection));
  }

  /** @internal Returns the logits [..., V] of states [..., C] that `states` has returned. */
  project(states: FloatTensor): FloatTensor {
    return scope(() => logitsOf(states, this.projection));
  }

  /** @internal Returns the input of the first block, [B, T, C], for ids i32 [B, T]. */
  blockInput(ids: IntTensor): FloatTensor {
    return scope(() => this.embed(ids, {}));
  }

  /** @internal Returns the output of block `layer` for its input x [B, T, C]: whole sequences, without a cache. */
  blockOutput(layer: number, x: FloatTensor): FloatTensor {
    const [batch, tokens] = x.shape as [number, number, number];
    return scope(() => {
      const mask = sequenceMask(this.name, {}, { batch, tokens, device: this.device });
      return this.blocks[layer]!.forward(x, this.contextOf({ ...mask, cache: null, layer, observer: null }));
    });
  }

  /** @internal Returns the states that are projected to logits, for the output x [..., C] of the last block. */
  finalStates(x: FloatTensor): FloatTensor {
    return scope(() => this.finalNorm.forward(x));
  }

  /** Layer that projects states to logits: `lm_head`, or the embedding of the tokens. */
  get projection(): OutputProjection {
    return this.lm_head ?? this.tokens;
  }
}
