import type { AttentionContext } from "../nn/attend.js";
import type { BlockStack } from "../nn/block-parts.js";
import type { EncodedSource } from "../nn/cross-memory.js";
import { lastTokens } from "../nn/last-tokens.js";
import { type Observer, see } from "../nn/observer.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { checkObject, checkShapeIs } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { Model } from "./model.js";
import { checkLengths, checkPass, type ObserverOption, type PassOptions } from "./pass.js";
import { checkSources, TargetDecoder } from "./target-decoder.js";

/** Options for a batch of sources. */
export interface SourceOptions extends ObserverOption {
  /** Number of real tokens in each source, i32 [B]; the rest is padding at its end. @default null (no padding) */
  lengths?: IntTensor | null;
}

/** Options for a batch of sources with their targets. */
export interface PairOptions extends ObserverOption {
  /** Number of real tokens in each source, i32 [B]; the rest is padding at its end. @default null (no padding) */
  sourceLengths?: IntTensor | null;
  /** Number of real tokens in each target, i32 [B]; the rest is padding at its end. @default null (no padding) */
  targetLengths?: IntTensor | null;
}

/** Description of a pass that a decoder receives: the cache, the lengths of the targets and the observer. */
export type DecoderContext = Pick<AttentionContext, "cache" | "keyLengths" | "observer">;

/** Sizes that every encoder–decoder's configuration has. */
export interface PairSizes {
  readonly contextLength: number;
  /** Number of the encoder's blocks. */
  readonly layers: number;
  /** Number of the decoder's blocks. */
  readonly decoderLayers: number;
  readonly heads: number;
  readonly width: number;
  /** The token that every target begins after. */
  readonly startToken: number;
  /** The token that ends a target. */
  readonly endToken: number;
}

/** Blocks of a decoder, which attend to an encoded source. */
interface DecoderStack extends BlockStack {
  /** Returns the keys and values that each block attends to, for an encoded source [B, S, C]. */
  remember(encoded: FloatTensor, lengths: IntTensor | null): EncodedSource;
  /** Returns the last block's output [B, T, C] for embedded words [B, T, C]. */
  forward(words: FloatTensor, source: EncodedSource, context: DecoderContext): FloatTensor;
}

/**
 * Base class of encoder–decoder models: an encoder of the source, a decoder of the target that attends to the encoder's
 * output, and a projection to logits. Subclasses provide these parts.
 *
 * @example
 * const sizes = { vocabularySize: 100, layers: 1, heads: 2, width: 16 };
 * const model: SequenceToSequence = new T5(sizes);
 * const source = tensor([[7, 8, 9, 1]], [1, 4], { dtype: "i32" });
 * model.encode(source).shape; // [1, 4, 16]
 */
export abstract class SequenceToSequence extends Model {
  abstract readonly config: PairSizes;
  abstract readonly encoder: BlockStack;
  abstract readonly decoder: DecoderStack;

  /** Number of tokens in the source's vocabulary. */
  abstract get sourceVocabularySize(): number;
  /** Number of tokens in the target's vocabulary (V). */
  abstract get targetVocabularySize(): number;
  /** Layer that projects states to logits. */
  abstract get projection(): OutputProjection;
  /** Returns the input of the encoder, [B, S, C], for source ids i32 [B, S]. */
  protected abstract embedSource(ids: IntTensor): FloatTensor;
  /** Returns the input of the decoder, [B, T, C], for target ids i32 [B, T]. */
  protected abstract embedTarget(ids: IntTensor): FloatTensor;
  /** Returns the encoder's output [B, S, C] for embedded words [B, S, C]. */
  protected abstract encodeWords(words: FloatTensor, lengths: IntTensor | null, observer: Observer | null): FloatTensor;
  /** Returns the states to project to logits, for the output x of the decoder's last block; both are [..., C]. */
  protected abstract finish(x: FloatTensor, observer: Observer | null): FloatTensor;

  /** Returns the bias of the logits, [V], or null. */
  protected logitsBias(): FloatTensor | null {
    return null;
  }

  /** Returns the bias of the logits in `decode`, where they choose the next token: [V], or null. */
  protected decodingBias(): FloatTensor | null {
    return this.logitsBias();
  }

  /**
   * Returns the encoder's output [B, S, C] for source ids i32 [B, S].
   *
   * @throws ERR_SHAPE if S is 0 or above `contextLength`, or the lengths are not [B].
   */
  encode(source: IntTensor, options: SourceOptions = {}): FloatTensor {
    const op = `${this.name}.encode`;
    checkObject(op, "options", options);
    const { lengths = null, observer = null } = options;
    checkPass(op, source, { observer }, this.config.contextLength);
    checkLengths(this.name, "lengths", lengths, source);
    return scope(() => {
      const words = see(observer, "encoder.hook_embed", this.embedSource(source)); // [B, S, C]
      return this.encodeWords(words, lengths, observer);
    });
  }

  /**
   * Returns the logits [B, T, V] of the token that follows each of target i32 [B, T], given source i32 [B, S].
   *
   * @throws ERR_SHAPE if S or T is 0 or above `contextLength`, or the batch sizes differ.
   */
  forward(source: IntTensor, target: IntTensor, options: PairOptions = {}): FloatTensor {
    checkObject(this.name, "options", options);
    const bias = this.logitsBias();
    return scope(() => logitsOf(this.#states(source, target, options), this.projection, { bias }));
  }

  /**
   * Returns the mean cross-entropy, in nats per token, of predicting labels i32 [B, T] from source i32 [B, S] and
   * target i32 [B, T]. To train on the translation "x y", pass "start x y" as the target and "x y end" as the labels.
   * The label of padding is `ignoreIndex`, by default −100.
   *
   * @example
   * const model = new T5({ vocabularySize: 100, layers: 1, heads: 2, width: 16 });
   * const ids = (...values: number[]) => tensor([values], [1, values.length], { dtype: "i32" });
   * const loss = model.loss(ids(7, 8, 9, 1), ids(0, 5, 6), ids(5, 6, 1));
   * loss.backward();
   */
  loss(
    source: IntTensor,
    target: IntTensor,
    labels: IntTensor,
    options: CrossEntropyOptions & PairOptions = {},
  ): FloatTensor {
    checkObject(this.name, "options", options);
    const { sourceLengths = null, targetLengths = null, observer = null, ...rest } = options;
    const bias = this.logitsBias();
    return scope(() => {
      const states = this.#states(source, target, { sourceLengths, targetLengths, observer });
      return logitsLoss(states, this.projection, labels, { ...rest, bias });
    });
  }

  /**
   * Returns a model that predicts the targets of sources i32 [B, S], for inference. It is a `CausalModel`, as
   * `generateTokens` and other functions take. Each target begins with the start token. Dispose it after use.
   */
  decoderFor(source: IntTensor, options: SourceOptions = {}): TargetDecoder {
    const { contextLength } = this.config;
    const encode = (): EncodedSource => this.decoder.remember(this.encode(source, options), options.lengths ?? null);
    return new TargetDecoder(this, encode, { contextLength, vocabularySize: this.targetVocabularySize });
  }

  /** Runs the decoder alone, for inference, on sources that are already encoded; see `SourceModel.decode`. */
  decode(ids: IntTensor, source: EncodedSource, options: PassOptions = {}): FloatTensor {
    const op = `${this.name}.decode`;
    checkPass(op, ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, observer = null } = options;
    checkSources(op, ids, source);
    return scope(() => {
      cache?.begin(ids.shape[1]!, counts);
      let x = this.#decoded(ids, source, { cache }, observer); // [B, T, C]
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return logitsOf(this.finish(x, observer), this.projection, { bias: this.decodingBias() });
    });
  }

  /** Returns the states that are projected to logits, [B, T, C]. */
  #states(source: IntTensor, target: IntTensor, options: PairOptions): FloatTensor {
    const { sourceLengths = null, targetLengths: keyLengths = null, observer = null } = options;
    return scope(() => {
      const encoded = this.encode(source, { lengths: sourceLengths, observer });
      checkPass(this.name, target, {}, this.config.contextLength);
      checkShapeIs(this.name, "target", target, [source.shape[0]!, -1]);
      checkLengths(this.name, "targetLengths", keyLengths, target);
      const seen = this.decoder.remember(encoded, sourceLengths);
      return this.finish(this.#decoded(target, seen, { keyLengths }, observer), observer);
    });
  }

  /** Returns the output of the decoder's last block, [B, T, C]. */
  #decoded(ids: IntTensor, source: EncodedSource, context: DecoderContext, observer: Observer | null): FloatTensor {
    const words = see(observer, "decoder.hook_embed", this.embedTarget(ids)); // [B, T, C]
    return this.decoder.forward(words, source, { ...context, observer: observer?.at("decoder") ?? null });
  }
}
