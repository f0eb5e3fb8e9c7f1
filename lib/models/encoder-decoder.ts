import type { Block, BlockStack } from "../nn/block-parts.js";
import type { EncodedSource } from "../nn/cross-memory.js";
import { DecoderBlock } from "../nn/decoder-block.js";
import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import type { Initializer } from "../nn/init.js";
import type { AttentionCache } from "../nn/attention-cache.js";
import { LayerNorm } from "../nn/layer-norm.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import type { Observer } from "../nn/observer.js";
import { PositionEmbedding } from "../nn/position-embedding.js";
import { TransformerBlock } from "../nn/transformer-block.js";
import type { OutputProjection } from "../nn/output-projection.js";
import { add, mul } from "../ops/binary.js";
import { keep } from "../core/scope.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkEncoderDecoderConfig, type EncoderDecoderConfig } from "./encoder-decoder-config.js";
import { initializerOf, type ModelOptions } from "./model.js";
import { type DecoderContext, SequenceToSequence } from "./sequence-to-sequence.js";

type FullConfig = Required<EncoderDecoderConfig>;

/** Base class of encoder and decoder: the positions before their blocks and the norm after them. */
abstract class Stack extends Module implements BlockStack {
  /** Positions that are added to the embeddings; null if the model has none. */
  readonly positions: PositionEmbedding | null;
  readonly drop: Dropout;
  /** Norm after the last block; null without `finalNorms`. */
  readonly ln_f: LayerNorm | null;

  constructor(config: FullConfig, positions: PositionEmbedding | null, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, bias, eps, dropout, finalNorms } = config;
    this.positions = positions;
    this.drop = new Dropout(dropout, seeds);
    this.ln_f = finalNorms ? new LayerNorm({ width, bias, eps }, init) : null;
  }

  /** Blocks, from the first to the last. */
  abstract get blocks(): readonly Block[];

  /** Norm after the last block; null without `finalNorms`. */
  get finalNorm(): LayerNorm | null {
    return this.ln_f;
  }

  /** True if vectors of positions are added to the embedded tokens. */
  get addsPositions(): boolean {
    return this.positions !== null;
  }

  /** Returns the input of the first block, [B, T, C], for embedded words [B, T, C]. */
  protected place(words: FloatTensor, cache: AttentionCache | null, observer: Observer | null): FloatTensor {
    return this.drop.forward(this.positions ? this.positions.forward(words, { cache, observer }) : words);
  }

  /** Returns the stack's output for the last block's output x, both [..., C]. `observer` is that of the norm. */
  finish(x: FloatTensor, observer: Observer | null | undefined): FloatTensor {
    return this.ln_f ? this.ln_f.forward(x, observer) : x;
  }
}

class Encoder extends Stack {
  readonly h: TransformerBlock[];

  constructor(config: FullConfig, positions: PositionEmbedding | null, init: Initializer, seeds: DropoutSeeds) {
    super(config, positions, init, seeds);
    const block = { ...blockOf(config, config.layers), causal: false };
    this.h = Array.from({ length: config.layers }, () => new TransformerBlock(block, init, seeds));
  }

  get blocks(): readonly TransformerBlock[] {
    return this.h;
  }

  /** Returns the last block's output [B, S, C] for embedded words [B, S, C]. */
  forward(words: FloatTensor, keyLengths: IntTensor | null, listening: Observer | null): FloatTensor {
    let x = this.place(words, null, listening);
    for (const [layer, block] of this.h.entries()) {
      const observer = listening?.at(String(layer)) ?? null;
      x = replace(x, block.forward(x, { keyLengths, observer }));
    }
    return x;
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

  get blocks(): readonly DecoderBlock[] {
    return this.h;
  }

  /** Returns the keys and values that each block attends to, for an encoded source [B, S, C]. */
  remember(encoded: FloatTensor, lengths: IntTensor | null): EncodedSource {
    return { layers: this.h.map(({ cross }) => cross.remember(encoded)), lengths };
  }

  /** Returns the last block's output [B, T, C] for embedded words [B, T, C]. */
  forward(words: FloatTensor, source: EncodedSource, context: DecoderContext): FloatTensor {
    let x = this.place(words, context.cache ?? null, context.observer ?? null);
    for (const [layer, block] of this.h.entries()) {
      const observer = context.observer?.at(String(layer)) ?? null;
      const seen = { ...source.layers[layer]!, keyLengths: source.lengths, observer };
      x = replace(x, block.forward(x, { ...context, layer, observer, source: seen }));
    }
    return x;
  }
}

/** Frees x, which `next` replaces, and returns `next`. */
function replace(x: FloatTensor, next: FloatTensor): FloatTensor {
  x.dispose();
  return next;
}

function blockOf(config: FullConfig, layers: number) {
  const { width, heads, feedForwardWidth: hidden, activation, bias, norm, eps, dropout, attentionDropout } = config;
  const std = 1 / Math.sqrt(width);
  return {
    ...{ width, heads, feedForwardWidth: hidden, activation, bias, norm, eps, std },
    // Scaled so that all additions to the residual stream together have about the variance of one.
    outputStd: std / Math.sqrt(2 * layers),
    dropout: attentionDropout,
    residualDropout: dropout,
  };
}

/**
 * Encoder–decoder of the original Transformer (Vaswani et al. 2017): an encoder of the source and a decoder of the
 * target that attends to the encoder's output. Its configuration also covers the variants of Marian, OpenNMT and
 * tensor2tensor.
 *
 * @example
 * const sizes = { sourceVocabularySize: 100, contextLength: 16, layers: 2, heads: 2, width: 16 };
 * const model = new EncoderDecoder({ ...sizes, startToken: 0, endToken: 1 });
 * const source = tensor([[7, 8, 9, 1]], [1, 4], { dtype: "i32" });
 * model.forward(source, tensor([[0, 5, 6]], [1, 3], { dtype: "i32" })).shape; // [1, 3, 100]
 *
 * @see https://arxiv.org/abs/1706.03762
 */
export class EncoderDecoder extends SequenceToSequence {
  /** Embedding of the source. */
  readonly source: Embedding;
  /** Embedding of the target; the source's if they are shared. */
  readonly target: Embedding;
  readonly encoder: Encoder;
  readonly decoder: Decoder;
  /** Output projection; null if the target's embedding is the output projection. */
  readonly head: Linear | null;
  /** Bias of the logits, [V]; null if the configuration has none. */
  readonly logits_bias: FloatTensor | null;
  /** Mask f32 [V] that is −∞ for suppressed tokens and 0 for others; null if no tokens are suppressed. */
  readonly suppressed: FloatTensor | null;
  /** Complete configuration, with every default filled in. */
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

  get tokens(): Embedding {
    return this.source;
  }

  get projection(): OutputProjection {
    return this.head ?? this.target;
  }

  get sourceVocabularySize(): number {
    return this.config.sourceVocabularySize;
  }

  get targetVocabularySize(): number {
    return this.config.targetVocabularySize;
  }

  protected override logitsBias(): FloatTensor | null {
    return this.logits_bias;
  }

  /** Returns the bias of the logits plus −∞ for suppressed tokens, [V], or null if there is neither. */
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
    const x = this.encoder.forward(words, lengths, observer?.at("encoder") ?? null);
    return this.encoder.finish(x, observer?.at("encoder_final_ln"));
  }

  protected finish(x: FloatTensor, observer: Observer | null): FloatTensor {
    return this.decoder.finish(x, observer?.at("decoder_final_ln"));
  }

  #embed(embedding: Embedding, ids: IntTensor): FloatTensor {
    const words = embedding.forward(ids, { dtype: this.dtype }); // [B, T, C]
    return this.config.scaleEmbeddings ? mul(words, Math.sqrt(this.config.width)) : words;
  }
}
