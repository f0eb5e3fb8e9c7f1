import type { AttentionContext } from "../nn/attend.js";
import type { StreamNorm } from "../nn/block-parts.js";
import { Dropout } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { checkComputed } from "../nn/init.js";
import { Linear } from "../nn/linear.js";
import { see } from "../nn/observer.js";
import { PositionEmbedding } from "../nn/position-embedding.js";
import { normOf, TransformerBlock } from "../nn/transformer-block.js";
import { mul } from "../ops/binary.js";
import { rotaryTable } from "../ops/rotary-table.js";
import { keep } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { CausalDecoder, type DecoderForwardOptions } from "./causal-decoder.js";
import { checkGptConfig, dropoutsOf, type GptConfig } from "./gpt-config.js";
import { initializerOf, type ModelOptions } from "./model.js";

/** Options of `GPT.forward`. */
export type GptForwardOptions = DecoderForwardOptions;

/**
 * GPT-2 (Radford et al. 2019): token and position embeddings, pre-norm blocks, a final norm, and the token embedding
 * again as the output projection. Parameters have the names and layouts of GPT-2's published weights. The configuration
 * can replace its positions, norms, feed-forward layers and heads, and limit what a token sees.
 *
 * @example
 * const small = new GPT({ vocabularySize: 256, contextLength: 64, layers: 2, heads: 4, width: 32 }, { seed: 1 });
 * const ids = tensor(tokenizer.encode("Hello"), [1, 5]);
 * small.forward(ids).shape; // [1, 5, 256]
 *
 * @see https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
 */
export class GPT extends CausalDecoder {
  /** Embedding of the tokens. */
  readonly wte: Embedding;
  /** Positions that are added to the embeddings; null unless they are learned or sinusoidal. */
  readonly wpe: PositionEmbedding | null;
  readonly drop: Dropout;
  readonly h: TransformerBlock[];
  readonly ln_f: StreamNorm;
  /** Output projection; null if the token embedding is the output projection. */
  readonly lm_head: Linear | null;
  /** Complete configuration, with every default filled in. */
  readonly config: Required<GptConfig>;

  constructor(config: GptConfig, options: ModelOptions = {}) {
    super("GPT", options);
    this.config = checkGptConfig(config);
    const { vocabularySize, contextLength, layers, heads, width, bias, eps } = this.config;
    const { embeddingDropout, attentionDropout, residualDropout } = dropoutsOf(this.config);
    const { positions, normalization, scaleAttention, scaleAttentionByLayer } = this.config;
    const init = initializerOf(options);
    const tableSize = { size: 2 * Math.floor(width / heads / 2), length: contextLength, device: init.device };
    if (positions === "rotary") checkComputed([tableSize.length, tableSize.size]);
    const rotary = positions === "rotary" ? { table: keep(rotaryTable(tableSize)) } : null;
    const block = {
      ...this.config,
      causal: true,
      dropout: attentionDropout,
      residualDropout,
      alibi: positions === "alibi",
      rotary,
      layout: "io",
      // Each block adds to the residual stream twice. This factor keeps the stream's variance that of one layer
      // (Radford et al. 2019, §2.3).
      outputStd: 0.02 / Math.sqrt(2 * layers),
    } as const;
    this.wte = new Embedding({ count: vocabularySize, width }, init);
    const added = positions === "learned" || positions === "sinusoidal";
    const sinusoids = positions === "sinusoidal" ? {} : null;
    this.wpe = added ? new PositionEmbedding({ length: contextLength, width, sinusoids }, init) : null;
    this.drop = new Dropout(embeddingDropout, this.dropoutSeeds);
    this.h = Array.from({ length: layers }, (_, layer) => {
      const scale = (scaleAttention ? 1 / Math.sqrt(width / heads) : 1) / (scaleAttentionByLayer ? layer + 1 : 1);
      return new TransformerBlock({ ...block, scale }, init, this.dropoutSeeds);
    });
    this.ln_f = normOf(normalization, { width, bias, eps }, init);
    this.lm_head = this.config.tied ? null : new Linear({ inputs: width, outputs: vocabularySize, bias: false }, init);
  }

  get tokens(): Embedding {
    return this.wte;
  }

  get blocks(): readonly TransformerBlock[] {
    return this.h;
  }

  get finalNorm(): StreamNorm {
    return this.ln_f;
  }

  get headSize(): number {
    return this.config.width / this.config.heads;
  }

  get addsPositions(): boolean {
    return this.wpe !== null;
  }

  get embeddingScale(): number {
    return this.config.embeddingScale;
  }

  protected contextOf(pass: AttentionContext): AttentionContext {
    return pass;
  }

  protected embed(ids: IntTensor, { cache = null, documents = null, observer = null }: GptForwardOptions): FloatTensor {
    const { dtype, wte, wpe, drop } = this;
    const { embeddingScale: scale } = this;
    const embedded = wte.forward(ids, { dtype }); // [B, T, C]
    const words = see(observer, "hook_embed", scale === 1 ? embedded : mul(embedded, scale));
    return drop.forward(wpe ? wpe.forward(words, { cache, documents, observer }) : words);
  }
}
