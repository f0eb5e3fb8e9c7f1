import type { FloatDType } from "../dtype.js";
import type { EncodedSource } from "../nn/cross-memory.js";
import { Embedding } from "../nn/embedding.js";
import { Linear } from "../nn/linear.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { less, mul } from "../ops/binary.js";
import { checkObject, checkShapeIs } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { log } from "../ops/unary.js";
import { reshape } from "../ops/views.js";
import { scope } from "../scope.js";
import { tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkLengths, checkPass, type PassOptions } from "./pass.js";
import type { PairOptions, SourceOptions } from "./encoder-decoder.js";
import { lastTokens } from "./last-tokens.js";
import { checkT5Config, type T5Config } from "./t5-config.js";
import { T5Stack } from "./t5-stack.js";
import { checkSources, TargetDecoder } from "./target-decoder.js";
import { initializerOf, Model, type ModelOptions } from "./model.js";

type T5ForwardOptions = Pick<PairOptions, "sourceLengths" | "observer">;

/**
 * T5 (Raffel et al. 2020): an encoder–decoder with RMS norms before each part, no biases, and positions that are biases of
 * attention's scores by distance, shared by the layers of a stack; with options of its configuration also T5 1.1, Flan-T5
 * and mT5. Parameters have the names and layouts of Hugging Face's checkpoints.
 *
 * Self-attention is made of products and a softmax (`biasedAttention`), since the bias has a gradient: its memory grows
 * with the square of the length, B·H·T² numbers a layer.
 */
export class T5 extends Model {
  readonly shared: Embedding;
  readonly encoder: T5Stack;
  readonly decoder: T5Stack;
  /** null where the embedding is the output projection. */
  readonly lm_head: Linear | null;
  readonly config: Required<T5Config>;
  /** See SourceModel. */
  readonly readsWholeCache = true;

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

  protected get tokens(): Embedding {
    return this.shared;
  }

  /** source i32 [B, S] → [B, S, C] */
  encode(source: IntTensor, options: SourceOptions = {}): FloatTensor {
    checkObject("T5.encode", "options", options);
    const { lengths = null, observer = null } = options;
    checkPass("T5.encode", source, { observer }, this.config.contextLength);
    checkLengths("T5", "lengths", lengths, source);
    return scope(() => {
      const mask = lengths && paddingMask(lengths, source.shape[1]!, this.dtype);
      return this.encoder.finish(
        this.encoder.forward(this.#embed(source), { mask, observer: observer?.at("encoder") ?? null }),
      );
    });
  }

  /** source i32 [B, S], target i32 [B, T] → logits [B, T, V] of what follows each token of the target. */
  forward(source: IntTensor, target: IntTensor, options: T5ForwardOptions = {}): FloatTensor {
    checkObject("T5", "options", options);
    return scope(() => logitsOf(this.#states(source, target, options), this.#projection));
  }

  /** What is projected to logits: [B, T, C]. */
  #states(source: IntTensor, target: IntTensor, options: T5ForwardOptions): FloatTensor {
    const { sourceLengths = null, observer = null } = options;
    return scope(() => {
      const encoded = this.encode(source, { lengths: sourceLengths, observer });
      checkPass("T5", target, {}, this.config.contextLength);
      checkShapeIs("T5", "target", target, [source.shape[0]!, -1]);
      const seen = this.decoder.remember(encoded, sourceLengths);
      return this.#finish(
        this.decoder.forward(this.#embed(target), { source: seen, observer: observer?.at("decoder") ?? null }),
      );
    });
  }

  /** As `EncoderDecoder.loss`: mean cross-entropy in nats per token of the labels [B, T]. */
  loss(
    source: IntTensor,
    target: IntTensor,
    labels: IntTensor,
    options: CrossEntropyOptions & T5ForwardOptions = {},
  ): FloatTensor {
    checkObject("T5", "options", options);
    const { sourceLengths = null, observer = null, ...rest } = options;
    return scope(() =>
      logitsLoss(this.#states(source, target, { sourceLengths, observer }), this.#projection, labels, rest),
    );
  }

  /** As `EncoderDecoder.decoderFor`: what predicts the targets of these sources, for inference. To be disposed. */
  decoderFor(source: IntTensor, options: SourceOptions = {}): TargetDecoder {
    const encode = (): EncodedSource => this.decoder.remember(this.encode(source, options), options.lengths ?? null);
    return new TargetDecoder(this, encode, this.config);
  }

  /** The decoder's part of a pass, for inference: see SourceModel. */
  decode(ids: IntTensor, source: EncodedSource, options: PassOptions = {}): FloatTensor {
    checkPass("T5.decode", ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, observer = null } = options;
    checkSources("T5.decode", ids, source);
    return scope(() => {
      cache?.begin(ids.shape[1]!, counts);
      let x = this.decoder.forward(this.#embed(ids), { source, cache, observer: observer?.at("decoder") ?? null }); // [B, T, C]
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      return logitsOf(this.#finish(x), this.#projection);
    });
  }

  #embed(ids: IntTensor): FloatTensor {
    return this.shared.forward(ids, { dtype: this.dtype });
  }

  /** The decoder's last states as they are projected. */
  #finish(x: FloatTensor): FloatTensor {
    const finished = this.decoder.finish(x);
    return this.lm_head ? finished : mul(finished, this.config.width ** -0.5);
  }

  get #projection(): OutputProjection {
    return this.lm_head ?? this.shared;
  }
}

/** lengths [B] → 0 for real tokens and −∞ for padding, [B, 1, 1, S] */
function paddingMask(lengths: IntTensor, tokens: number, dtype: FloatDType): FloatTensor {
  const positions = tensor(
    Float32Array.from({ length: tokens }, (_, t) => t),
    [tokens],
    { device: lengths.device },
  );
  const real = less(positions, reshape(lengths.to("f32"), [-1, 1, 1, 1]));
  return log(real).to(dtype);
}
