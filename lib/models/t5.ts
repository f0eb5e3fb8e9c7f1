import { Embedding } from "../nn/embedding.js";
import { Linear } from "../nn/linear.js";
import type { Observer } from "../nn/observer.js";
import type { OutputProjection } from "../nn/output-projection.js";
import { mul } from "../ops/binary.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkT5Config, type T5Config } from "./t5-config.js";
import { T5Stack } from "./t5-stack.js";
import { initializerOf, type ModelOptions } from "./model.js";
import { SequenceToSequence } from "./sequence-to-sequence.js";

/**
 * T5 (Raffel et al. 2020): an encoder–decoder with an RMS norm before each part, without biases in its layers. Its
 * positions are learned biases of attention scores by distance, which all layers of a stack share. Its configuration
 * also covers T5 1.1, Flan-T5 and mT5. Parameters have the names and layouts of Hugging Face's files.
 *
 * In training, the bias needs a gradient, so self-attention consists of separate products and a softmax
 * (`biasedAttention`). Its memory then grows with the square of the length: B·H·T² numbers per layer.
 *
 * @example
 * const t5 = new T5({ vocabularySize: 100, layers: 2, heads: 2, width: 16 });
 * const source = tensor([[7, 8, 9, 1]], [1, 4], { dtype: "i32" });
 * t5.forward(source, tensor([[0, 5, 6]], [1, 3], { dtype: "i32" })).shape; // [1, 3, 100]
 *
 * @see https://arxiv.org/abs/1910.10683
 */
export class T5 extends SequenceToSequence {
  /** Token embedding, which encoder and decoder share. */
  readonly shared: Embedding;
  readonly encoder: T5Stack;
  readonly decoder: T5Stack;
  /** Output projection; null if the embedding is the output projection. */
  readonly lm_head: Linear | null;
  /** Complete configuration, with every default filled in. */
  readonly config: Required<T5Config>;

  constructor(config: T5Config, options: ModelOptions = {}) {
    super("T5", options);
    this.config = checkT5Config(config);
    const { vocabularySize, width, tied } = this.config;
    const init = initializerOf(options);
    const seeds = this.dropoutSeeds;
    this.shared = new Embedding({ count: vocabularySize, width, std: 1 }, init);
    this.encoder = new T5Stack(this.config, false, init, seeds);
    this.decoder = new T5Stack(this.config, true, init, seeds);
    const head = { inputs: width, outputs: vocabularySize, bias: false, std: width ** -0.5 };
    this.lm_head = tied ? null : new Linear(head, init);
  }

  get tokens(): Embedding {
    return this.shared;
  }

  get projection(): OutputProjection {
    return this.lm_head ?? this.shared;
  }

  get sourceVocabularySize(): number {
    return this.config.vocabularySize;
  }

  get targetVocabularySize(): number {
    return this.config.vocabularySize;
  }

  protected embedSource(ids: IntTensor): FloatTensor {
    return this.shared.forward(ids, { dtype: this.dtype });
  }

  protected embedTarget(ids: IntTensor): FloatTensor {
    return this.embedSource(ids);
  }

  protected encodeWords(words: FloatTensor, lengths: IntTensor | null, observer: Observer | null): FloatTensor {
    const x = this.encoder.forward(words, null, { keyLengths: lengths, observer: observer?.at("encoder") ?? null });
    return this.encoder.finish(x, observer?.at("encoder_final_ln"));
  }

  protected finish(x: FloatTensor, observer: Observer | null): FloatTensor {
    const finished = this.decoder.finish(x, observer?.at("decoder_final_ln"));
    return this.config.scaleOutput ? mul(finished, this.config.width ** -0.5) : finished;
  }
}
