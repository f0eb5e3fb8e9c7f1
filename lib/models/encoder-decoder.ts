import type { AttentionContext } from "../nn/attend.js";
import type { EncodedSource } from "../nn/cross-memory.js";
import { DecoderBlock } from "../nn/decoder-block.js";
import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import type { Initializer } from "../nn/init.js";
import type { KvCache } from "../nn/kv-cache.js";
import { LayerNorm } from "../nn/layer-norm.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import type { Observer } from "../nn/observer.js";
import { PositionEmbedding } from "../nn/position-embedding.js";
import { TransformerBlock } from "../nn/transformer-block.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { add, mul } from "../ops/binary.js";
import { checkObject, checkShapeIs } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { keep, scope } from "../scope.js";
import { tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkLengths, checkPass, type ObserverOption, type PassOptions } from "./pass.js";
import { checkEncoderDecoderConfig, type EncoderDecoderConfig } from "./encoder-decoder-config.js";
import { lastTokens } from "./last-tokens.js";
import { checkSources, TargetDecoder } from "./target-decoder.js";
import { initializerOf, Model, type ModelOptions } from "./model.js";

type FullConfig = Required<EncoderDecoderConfig>;

export interface SourceOptions extends ObserverOption {
  /** i32 [B]: real tokens of each source, the rest is padding at its end; all unless given. */
  lengths?: IntTensor | null;
}

export interface PairOptions extends ObserverOption {
  /** i32 [B]: real tokens of each source, the rest is padding at its end; all unless given. */
  sourceLengths?: IntTensor | null;
  /** i32 [B]: real tokens of each target, the rest is padding at its end; all unless given. */
  targetLengths?: IntTensor | null;
}

/** What both stacks of blocks have before and behind them. */
abstract class Stack extends Module {
  /** null where there are none. */
  readonly positions: PositionEmbedding | null;
  readonly drop: Dropout;
  /** null where the last block's norm is the last. */
  readonly ln_f: LayerNorm | null;

  constructor(config: FullConfig, positions: PositionEmbedding | null, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, bias, eps, dropout, finalNorms } = config;
    this.positions = positions;
    this.drop = new Dropout(dropout, seeds);
    this.ln_f = finalNorms ? new LayerNorm({ width, bias, eps }, init) : null;
  }

  /** words [B, T, C] → what goes into the first block, [B, T, C] */
  protected place(words: FloatTensor, cache: KvCache | null): FloatTensor {
    return this.drop.forward(this.positions ? this.positions.forward(words, { cache }) : words);
  }

  /** What comes out of the last block, finished: [..., C] → [..., C] */
  finish(x: FloatTensor): FloatTensor {
    return this.ln_f ? this.ln_f.forward(x) : x;
  }
}

class Encoder extends Stack {
  readonly h: TransformerBlock[];

  constructor(config: FullConfig, positions: PositionEmbedding | null, init: Initializer, seeds: DropoutSeeds) {
    super(config, positions, init, seeds);
    const block = { ...blockOf(config, config.layers), causal: false };
    this.h = Array.from({ length: config.layers }, () => new TransformerBlock(block, init, seeds));
  }

  /** words [B, S, C] → [B, S, C] */
  forward(words: FloatTensor, keyLengths: IntTensor | null, listening: Observer | null): FloatTensor {
    let x = this.place(words, null);
    for (const [layer, block] of this.h.entries()) {
      const observer = listening?.at(`encoder.${layer}`) ?? null;
      x = replace(x, block.forward(x, { keyLengths, observer }));
    }
    return this.finish(x);
  }
}

class Decoder extends Stack {
  readonly h: DecoderBlock[];

  constructor(config: FullConfig, positions: PositionEmbedding | null, init: Initializer, seeds: DropoutSeeds) {
    super(config, positions, init, seeds);
    const { decoderLayers } = config;
    const block = blockOf(config, decoderLayers);
    this.h = Array.from({ length: decoderLayers }, () => new DecoderBlock(block, init, seeds));
  }

  /** What each block sees of an encoded source [B, S, C]. */
  remember(encoded: FloatTensor, lengths: IntTensor | null): EncodedSource {
    return { layers: this.h.map(({ cross }) => cross.remember(encoded)), lengths };
  }

  /** words [B, T, C] → what comes out of the last block, [B, T, C] */
  forward(words: FloatTensor, source: EncodedSource, context: AttentionContext): FloatTensor {
    let x = this.place(words, context.cache ?? null);
    for (const [layer, block] of this.h.entries()) {
      const observer = context.observer?.at(`decoder.${layer}`) ?? null;
      const seen = { ...source.layers[layer]!, keyLengths: source.lengths, observer };
      x = replace(x, block.forward(x, { ...context, layer, observer, source: seen }));
    }
    return x;
  }
}

/** Frees a value that the next one stands for. */
function replace(x: FloatTensor, next: FloatTensor): FloatTensor {
  x.dispose();
  return next;
}

function blockOf(config: FullConfig, layers: number) {
  const { width, heads, hidden, activation, bias, norm, eps, dropout, attentionDropout } = config;
  const std = 1 / Math.sqrt(width);
  return {
    ...{ width, heads, hidden, activation, bias, norm, eps, std },
    // What the blocks add to the residual stream has together about the variance of one part.
    outputStd: std / Math.sqrt(2 * layers),
    dropout: attentionDropout,
    residualDropout: dropout,
  };
}

/**
 * The original Transformer (Vaswani et al. 2017): an encoder of the source, and a decoder of the target that looks at what
 * the encoder made of it. Options of the configuration make it that of Marian, of OpenNMT and of tensor2tensor.
 */
export class EncoderDecoder extends Model {
  readonly source: Embedding;
  /** The source's where they are shared. */
  readonly target: Embedding;
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  /** null where the target's embedding is the output projection. */
  readonly head: Linear | null;
  /** [V] */
  readonly logits_bias: FloatTensor | null;
  /** −∞ for suppressed tokens and else 0, f32 [V]; null where there are none. */
  readonly suppressed: FloatTensor | null;
  readonly config: FullConfig;

  constructor(config: EncoderDecoderConfig, options: ModelOptions = {}) {
    super("EncoderDecoder", options);
    this.config = checkEncoderDecoderConfig(config);
    const { sourceVocabularySize, targetVocabularySize, shared, contextLength, width, tied } = this.config;
    const { positions, sinusoids, scaleEmbeddings, logitsBias, suppressedTokens } = this.config;
    const init = initializerOf(options);
    const seeds = this.dropoutSeeds;
    const std = scaleEmbeddings ? 1 / Math.sqrt(width) : 0.02;
    this.source = new Embedding({ count: sourceVocabularySize, width, std }, init);
    this.target = shared ? this.source : new Embedding({ count: targetVocabularySize, width, std }, init);
    const placing = { length: contextLength, width, sinusoids: positions === "learned" ? null : sinusoids };
    const next = () => (positions === "none" ? null : new PositionEmbedding(placing, init));
    this.encoder = new Encoder(this.config, next(), init, seeds);
    this.decoder = new Decoder(this.config, next(), init, seeds);
    this.head = tied ? null : new Linear({ inputs: width, outputs: targetVocabularySize, bias: false, std }, init);
    this.logits_bias = logitsBias ? init.constant([targetVocabularySize], 0) : null;
    const mask = new Float32Array(targetVocabularySize);
    for (const token of suppressedTokens) mask[token] = -Infinity;
    this.suppressed = suppressedTokens.length > 0 ? keep(tensor(mask, [mask.length], { device: init.device })) : null;
  }

  protected get tokens(): Embedding {
    return this.source;
  }

  /** source i32 [B, S] → [B, S, C] */
  encode(source: IntTensor, options: SourceOptions = {}): FloatTensor {
    checkObject("EncoderDecoder.encode", "options", options);
    const { lengths = null, observer = null } = options;
    checkPass("EncoderDecoder.encode", source, { observer }, this.config.contextLength);
    checkLengths("EncoderDecoder", "lengths", lengths, source);
    return scope(() => this.encoder.forward(this.#embed(this.source, source), lengths, observer));
  }

  /** source i32 [B, S], target i32 [B, T] → logits [B, T, V] of what follows each token of the target. */
  forward(source: IntTensor, target: IntTensor, options: PairOptions = {}): FloatTensor {
    checkObject("EncoderDecoder", "options", options);
    const { logits_bias: bias } = this;
    return scope(() => logitsOf(this.#states(source, target, options), this.#projection, { bias }));
  }

  /** What is projected to logits: [B, T, C]. */
  #states(source: IntTensor, target: IntTensor, options: PairOptions): FloatTensor {
    const { sourceLengths = null, targetLengths = null, observer = null } = options;
    return scope(() => {
      const encoded = this.encode(source, { lengths: sourceLengths, observer });
      checkPass("EncoderDecoder", target, {}, this.config.contextLength);
      checkShapeIs("EncoderDecoder", "target", target, [source.shape[0]!, -1]);
      checkLengths("EncoderDecoder", "targetLengths", targetLengths, target);
      const words = this.#embed(this.target, target);
      const seen = this.decoder.remember(encoded, sourceLengths);
      return this.decoder.finish(this.decoder.forward(words, seen, { keyLengths: targetLengths, observer }));
    });
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
    checkObject("EncoderDecoder", "options", options);
    const { sourceLengths = null, targetLengths = null, observer = null, ...rest } = options;
    const { logits_bias: bias } = this;
    return scope(() => {
      const states = this.#states(source, target, { sourceLengths, targetLengths, observer });
      return logitsLoss(states, this.#projection, labels, { ...rest, bias });
    });
  }

  /**
   * What predicts the targets of these sources, i32 [B, S], for inference: a model for `generateTokens`, sampling and
   * whatever else takes a `CausalModel`. Each target begins after `config.startToken`. To be disposed.
   */
  decoderFor(source: IntTensor, options: SourceOptions = {}): TargetDecoder {
    const { contextLength, targetVocabularySize: vocabularySize } = this.config;
    const encode = (): EncodedSource => this.decoder.remember(this.encode(source, options), options.lengths ?? null);
    return new TargetDecoder(this, encode, { contextLength, vocabularySize });
  }

  /** The decoder's part of a pass, for inference: see SourceModel. Tokens that are suppressed have the logit −∞. */
  decode(ids: IntTensor, source: EncodedSource, options: PassOptions = {}): FloatTensor {
    checkPass("EncoderDecoder.decode", ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false, observer = null } = options;
    checkSources("EncoderDecoder.decode", ids, source);
    return scope(() => {
      cache?.begin(ids.shape[1]!, counts);
      let x = this.decoder.forward(this.#embed(this.target, ids), source, { cache, observer }); // [B, T, C]
      cache?.advance();
      if (lastOnly) x = lastTokens(x, counts); // [B, C]
      const { suppressed, logits_bias: bias } = this;
      const added = suppressed && bias ? add(bias, suppressed.to(bias.dtype)) : (suppressed ?? bias);
      return logitsOf(this.decoder.finish(x), this.#projection, { bias: added });
    });
  }

  #embed(embedding: Embedding, ids: IntTensor): FloatTensor {
    const words = embedding.forward(ids, { dtype: this.dtype }); // [B, T, C]
    return this.config.scaleEmbeddings ? mul(words, Math.sqrt(this.config.width)) : words;
  }

  get #projection(): OutputProjection {
    return this.head ?? this.target;
  }
}
