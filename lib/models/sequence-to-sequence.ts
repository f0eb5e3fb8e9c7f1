import type { AttentionContext } from "../nn/attend.js";
import type { EncodedSource } from "../nn/cross-memory.js";
import type { Observer } from "../nn/observer.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { checkObject, checkShapeIs } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { lastTokens } from "./last-tokens.js";
import { Model } from "./model.js";
import { checkLengths, checkPass, type ObserverOption, type PassOptions } from "./pass.js";
import { checkSources, TargetDecoder } from "./target-decoder.js";

export interface SourceOptions extends ObserverOption {
  /** i32 [B]: real tokens of each source, the rest is padding at its end. @default all of them */
  lengths?: IntTensor | null;
}

export interface PairOptions extends ObserverOption {
  /** i32 [B]: real tokens of each source, the rest is padding at its end. @default all of them */
  sourceLengths?: IntTensor | null;
  /** i32 [B]: real tokens of each target, the rest is padding at its end. @default all of them */
  targetLengths?: IntTensor | null;
}

/** Describes a pass to a decoder: earlier tokens, the lengths of the targets, and who listens. */
export type DecoderContext = Pick<AttentionContext, "cache" | "keyLengths" | "observer">;

/** The decoder's blocks, which look at an encoded source. */
interface DecoderStack {
  /** Returns what each block sees of an encoded source [B, S, C]. */
  remember(encoded: FloatTensor, lengths: IntTensor | null): EncodedSource;
  /** words [B, T, C] → what comes out of the last block, [B, T, C] */
  forward(words: FloatTensor, source: EncodedSource, context: DecoderContext): FloatTensor;
}

/**
 * An encoder of the source, a decoder of the target that looks at what the encoder made of it, and a projection to logits.
 * Its subclasses say what these are made of.
 */
export abstract class SequenceToSequence extends Model {
  abstract readonly config: { readonly contextLength: number };
  abstract readonly decoder: DecoderStack;

  /** V, the number of tokens that a target is made of. */
  protected abstract get targetVocabularySize(): number;
  protected abstract get projection(): OutputProjection;
  /** source i32 [B, S] → what goes into the encoder, [B, S, C] */
  protected abstract embedSource(ids: IntTensor): FloatTensor;
  /** target i32 [B, T] → what goes into the decoder, [B, T, C] */
  protected abstract embedTarget(ids: IntTensor): FloatTensor;
  /** words [B, S, C] → [B, S, C] */
  protected abstract encodeWords(words: FloatTensor, lengths: IntTensor | null, observer: Observer | null): FloatTensor;
  /** Prepares the output of the decoder's last block for the projection to logits: [..., C] → [..., C] */
  protected abstract finish(x: FloatTensor): FloatTensor;

  /** Returns what is added to the logits, [V], or null. */
  protected logitsBias(): FloatTensor | null {
    return null;
  }

  /** Returns what is added to the logits where they are to choose the next token, [V], or null. */
  protected decodingBias(): FloatTensor | null {
    return this.logitsBias();
  }

  /** source i32 [B, S] → [B, S, C] */
  encode(source: IntTensor, options: SourceOptions = {}): FloatTensor {
    const op = `${this.name}.encode`;
    checkObject(op, "options", options);
    const { lengths = null, observer = null } = options;
    checkPass(op, source, { observer }, this.config.contextLength);
    checkLengths(this.name, "lengths", lengths, source);
    return scope(() => this.encodeWords(this.embedSource(source), lengths, observer?.at("encoder") ?? null));
  }

  /** source i32 [B, S], target i32 [B, T] → logits [B, T, V] of what follows each token of the target. */
  forward(source: IntTensor, target: IntTensor, options: PairOptions = {}): FloatTensor {
    checkObject(this.name, "options", options);
    const bias = this.logitsBias();
    return scope(() => logitsOf(this.#states(source, target, options), this.projection, { bias }));
  }

  /**
   * Mean cross-entropy in nats per token of predicting labels [B, T] from the source and the target's tokens before them:
   * for the target "x y" these are "start x y", and the labels "x y end". Padding has the label `ignoreIndex`.
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
   * Returns what predicts the targets of these sources, i32 [B, S], for inference: a model for `generateTokens`, sampling
   * and whatever else takes a `CausalModel`. Each target begins after the start token. To be disposed.
   */
  decoderFor(source: IntTensor, options: SourceOptions = {}): TargetDecoder {
    const { contextLength } = this.config;
    const encode = (): EncodedSource => this.decoder.remember(this.encode(source, options), options.lengths ?? null);
    return new TargetDecoder(this, encode, { contextLength, vocabularySize: this.targetVocabularySize });
  }

  /** The decoder's part of a pass, for inference: see SourceModel. */
  decode(ids: IntTensor, source: EncodedSource, options: PassOptions = {}): FloatTensor {
    const op = `${this.name}.decode`;
    checkPass(op, ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, observer = null } = options;
    checkSources(op, ids, source);
    return scope(() => {
      cache?.begin(ids.shape[1]!, counts);
      const context = { cache, observer: observer?.at("decoder") ?? null };
      let x = this.decoder.forward(this.embedTarget(ids), source, context); // [B, T, C]
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return logitsOf(this.finish(x), this.projection, { bias: this.decodingBias() });
    });
  }

  /** Returns the states that are projected to logits: [B, T, C]. */
  #states(source: IntTensor, target: IntTensor, options: PairOptions): FloatTensor {
    const { sourceLengths = null, targetLengths: keyLengths = null, observer = null } = options;
    return scope(() => {
      const encoded = this.encode(source, { lengths: sourceLengths, observer });
      checkPass(this.name, target, {}, this.config.contextLength);
      checkShapeIs(this.name, "target", target, [source.shape[0]!, -1]);
      checkLengths(this.name, "targetLengths", keyLengths, target);
      const seen = this.decoder.remember(encoded, sourceLengths);
      const context = { keyLengths, observer: observer?.at("decoder") ?? null };
      return this.finish(this.decoder.forward(this.embedTarget(target), seen, context));
    });
  }
}
