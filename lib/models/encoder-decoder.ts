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
import type { OutputProjection } from "../nn/output-projection.js";
import { add, mul } from "../ops/binary.js";
import { keep } from "../scope.js";
import { tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkEncoderDecoderConfig, type EncoderDecoderConfig } from "./encoder-decoder-config.js";
import { initializerOf, type ModelOptions } from "./model.js";
import { type DecoderContext, SequenceToSequence } from "./sequence-to-sequence.js";

type FullConfig = Required<EncoderDecoderConfig>;

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
      const observer = listening?.at(String(layer)) ?? null;
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
  forward(words: FloatTensor, source: EncodedSource, context: DecoderContext): FloatTensor {
    let x = this.place(words, context.cache ?? null);
    for (const [layer, block] of this.h.entries()) {
      const observer = context.observer?.at(String(layer)) ?? null;
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
export class EncoderDecoder extends SequenceToSequence {
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

  protected get projection(): OutputProjection {
    return this.head ?? this.target;
  }

  protected get targetVocabularySize(): number {
    return this.config.targetVocabularySize;
  }

  protected override logitsBias(): FloatTensor | null {
    return this.logits_bias;
  }

  /** Tokens that are suppressed have the logit −∞. */
  protected override decodingBias(): FloatTensor | null {
    const { suppressed, logits_bias: bias } = this;
    return suppressed && bias ? add(bias, suppressed.to(bias.dtype)) : (suppressed ?? bias);
  }

  protected embedSource(ids: IntTensor): FloatTensor {
    return this.#embed(this.source, ids);
  }

  protected embedTarget(ids: IntTensor): FloatTensor {
    return this.#embed(this.target, ids);
  }

  protected encodeWords(words: FloatTensor, lengths: IntTensor | null, observer: Observer | null): FloatTensor {
    return this.encoder.forward(words, lengths, observer);
  }

  protected finish(x: FloatTensor): FloatTensor {
    return this.decoder.finish(x);
  }

  #embed(embedding: Embedding, ids: IntTensor): FloatTensor {
    const words = embedding.forward(ids, { dtype: this.dtype }); // [B, T, C]
    return this.config.scaleEmbeddings ? mul(words, Math.sqrt(this.config.width)) : words;
  }
}
