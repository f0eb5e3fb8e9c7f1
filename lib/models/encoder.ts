// The contracts of encoders, in which all tokens of a text see each other, and of the heads on top of them.
import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import type { Block, BlockStack, StreamNorm } from "../nn/block-parts.js";
import type { DropoutSeeds } from "../nn/dropout.js";
import { Module } from "../nn/module.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { Model } from "./model.js";
import type { ObserverOption } from "./pass.js";

/** Options of an encoder's `forward`. */
export interface EncoderForwardOptions extends ObserverOption {
  /** Type of each token, i32 [B, T], such as 0 in a first text and 1 in a second. @default null (all 0) */
  tokenTypes?: IntTensor | null;
  /**
   * Number of real tokens in each sequence, i32 [B]; the rest is padding at its end, which no token sees.
   * @default null (no padding)
   */
  keyLengths?: IntTensor | null;
}

/** Sizes that every encoder's configuration has. */
export interface EncoderSizes {
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly layers: number;
  readonly heads: number;
  readonly width: number;
  /** Number of token types; 0 if the model has none. */
  readonly tokenTypes: number;
}

/** Encoder of texts: embeddings, and blocks of attention in which all tokens see each other. */
export abstract class Encoder extends Model implements BlockStack {
  abstract readonly config: EncoderSizes;

  /** Blocks, from the first to the last. */
  abstract get blocks(): readonly Block[];
  /** Norm after the last block; null if there is none. */
  abstract readonly finalNorm: StreamNorm | null;
  /** True if vectors of positions are added to the embedded tokens. */
  abstract readonly addsPositions: boolean;

  /**
   * Returns the states [B, T, C] of the tokens ids i32 [B, T].
   *
   * @throws ERR_SHAPE if T is 0 or above `contextLength`, or an option's shape does not fit.
   */
  abstract forward(ids: IntTensor, options?: EncoderForwardOptions): FloatTensor;
}

/** Module on top of an encoder, for the task that its subclass names. */
export abstract class EncoderHead extends Module {
  /** Encoder below the head. */
  abstract get encoder(): Encoder;

  /** Device that holds the encoder and the head. */
  get device(): Device {
    return this.encoder.device;
  }

  /** Dtype of the encoder's activations; see `Model.dtype`. */
  get dtype(): FloatDType {
    return this.encoder.dtype;
  }

  set dtype(dtype: FloatDType) {
    this.encoder.dtype = dtype;
  }

  /** Source of dropout's seeds, shared with the encoder. */
  get dropoutSeeds(): DropoutSeeds {
    return this.encoder.dropoutSeeds;
  }

  /** Returns logits for ids i32 [B, T]. */
  abstract forward(ids: IntTensor, options?: EncoderForwardOptions): FloatTensor;
}

/** Options of a masked language model's `forward`. */
export interface MaskedForwardOptions extends EncoderForwardOptions {
  /**
   * Positions whose logits are computed, i32 [N]; b·T + t stands for token t of sequence b. This saves time,
   * because the vocabulary is large and few tokens are masked.
   * @default null (all positions)
   */
  positions?: IntTensor | null;
}

/** Encoder with a head that predicts the token at every position (Devlin et al. 2019, §3.1). */
export abstract class MaskedLanguageModel extends EncoderHead {
  /** Returns the logits [B, T, V] of ids i32 [B, T], or [N, V] with `positions`. */
  abstract override forward(ids: IntTensor, options?: MaskedForwardOptions): FloatTensor;

  /**
   * Returns the mean cross-entropy, in nats per token, of predicting targets i32 [B, T], or [N] with `positions`.
   * Targets that equal `ignoreIndex`, by default −100, do not count.
   */
  abstract loss(ids: IntTensor, targets: IntTensor, options?: MaskedForwardOptions & CrossEntropyOptions): FloatTensor;
}

/** Encoder with a head that classifies texts. */
export abstract class TextClassifier extends EncoderHead {
  /** Names of the classes. With one label, the logit is a score. */
  abstract readonly labels: readonly string[];

  /** Returns the logits [B, labels] of ids i32 [B, T]. */
  abstract override forward(ids: IntTensor, options?: EncoderForwardOptions): FloatTensor;

  /**
   * Returns the mean cross-entropy, in nats per text, of predicting labels i32 [B] from ids i32 [B, T].
   *
   * @throws ERR_ARGUMENT if the model has only one label.
   */
  abstract loss(ids: IntTensor, labels: IntTensor, options?: EncoderForwardOptions & CrossEntropyOptions): FloatTensor;
}
