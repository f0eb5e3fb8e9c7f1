import { describe, HeedError } from "../util/errors.js";
import { Dropout } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { KvCache } from "../nn/kv-cache.js";
import { Linear } from "../nn/linear.js";
import { Lstm } from "../nn/lstm.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import { checkBoolean, checkInteger, checkNumber, checkObject } from "../ops/check.js";
import type { CrossEntropyOptions } from "../ops/cross-entropy.js";
import { transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkPass, type PassOptions } from "./pass.js";
import { lastTokens } from "../nn/last-tokens.js";
import { initializerOf, Model, type ModelOptions } from "./model.js";

/** Size and options of an LSTM language model. */
export interface LstmLanguageModelConfig {
  /** V, the number of tokens in the vocabulary. */
  vocabularySize: number;
  /** Length of the longest sequence in one pass, in tokens; the LSTM itself has no limit. */
  contextLength: number;
  /** Number of LSTM layers. */
  layers: number;
  /** C, the width of the embeddings. */
  width: number;
  /** H, the width of the layers. @default width */
  size?: number;
  /** Dropout probability of embeddings and of each layer's output. @default 0 */
  dropout?: number;
  /**
   * True if the token embedding is the output projection, without a bias; `size` must then be `width`.
   * @default false
   */
  tied?: boolean;
}

/**
 * Recurrent language model (Zaremba et al. 2014), a baseline for transformers: token embeddings, LSTM layers and an
 * output projection. It reads token by token and keeps one state of fixed size of the past.
 *
 * @example
 * const sizes = { vocabularySize: 256, contextLength: 64, layers: 2, width: 32 };
 * const model = new LstmLanguageModel(sizes, { seed: 1 });
 * model.forward(tensor(tokenizer.encode("Hello"), [1, 5])).shape; // [1, 5, 256]
 *
 * @see https://arxiv.org/abs/1409.2329
 */
export class LstmLanguageModel extends Model {
  readonly embed: Embedding;
  readonly drop: Dropout;
  readonly rnn: Lstm;
  /** Output projection; null if the token embedding is the output projection. */
  readonly head: Linear | null;
  /** Complete configuration, with every default filled in. */
  readonly config: Required<LstmLanguageModelConfig>;

  constructor(config: LstmLanguageModelConfig, options: ModelOptions = {}) {
    super("LstmLanguageModel", options);
    this.config = checkConfig(config);
    const { vocabularySize, layers, width, size, dropout, tied } = this.config;
    const init = initializerOf(options);
    this.embed = new Embedding({ count: vocabularySize, width, std: 0.1 }, init);
    this.drop = new Dropout(dropout, this.dropoutSeeds);
    this.rnn = new Lstm({ inputs: width, size, layers, dropout }, init, this.dropoutSeeds);
    this.head = tied ? null : new Linear({ inputs: size, outputs: vocabularySize, std: 1 / Math.sqrt(size) }, init);
  }

  get tokens(): Embedding {
    return this.embed;
  }

  /** Returns the logits of the next token after each of ids i32 [B, T]: [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: PassOptions = {}): FloatTensor {
    const bias = this.head?.bias ?? null;
    return scope(() => logitsOf(this.#states(ids, options), this.#projection, { bias })); // [B, T, V]
  }

  /** Returns the states that are projected to logits: [B, T, H], or [B, H] with `lastOnly`. */
  #states(ids: IntTensor, options: PassOptions): FloatTensor {
    checkPass("LstmLanguageModel", ids, options, this.config.contextLength);
    const { cache = null, counts, lastOnly = false } = options;
    return scope(() => {
      cache?.begin(ids.shape[1]!, counts);
      const x = this.drop.forward(this.embed.forward(transpose(ids), { dtype: this.dtype })); // [T, B, C]
      const h = transpose(this.rnn.forward(x, cache), [1, 0, 2]); // [B, T, H]
      cache?.advance();
      return this.drop.forward(lastOnly ? lastTokens(h, counts) : h);
    });
  }

  /**
   * Returns the mean cross-entropy, in nats per token, of predicting targets i32 [B, T] from ids i32 [B, T].
   *
   * @throws ERR_ARGUMENT if `documents` are given: the state cannot restart inside a sequence.
   */
  loss(ids: IntTensor, targets: IntTensor, options: CrossEntropyOptions & { documents?: null } = {}): FloatTensor {
    checkObject("LstmLanguageModel", "options", options);
    const documents: unknown = options.documents ?? null;
    if (documents !== null)
      throw new HeedError(
        "ERR_ARGUMENT",
        `LstmLanguageModel: expected no documents, because the state carries over from one to the next, got ${describe(documents)}`,
      );
    const { documents: _, ...rest } = options;
    const bias = this.head?.bias ?? null;
    return scope(() => logitsLoss(this.#states(ids, {}), this.#projection, targets, { ...rest, bias }));
  }

  get #projection(): OutputProjection {
    return this.head ?? this.embed;
  }

  /** Returns an empty cache for `batch` sequences of up to `length` tokens, by default `contextLength`. */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    const { layers, size, contextLength } = this.config;
    checkInteger("LstmLanguageModel", "length", length, 1, contextLength);
    return new KvCache({ layers, batch, length, heads: 1, headSize: size, device: this.device, dtype: this.dtype });
  }
}

/**
 * Returns the configuration with every default filled in, after checking it.
 *
 * @throws ERR_RANGE if a number is out of range.
 * @throws ERR_SHAPE if the model is tied and `size` differs from `width`.
 * @throws ERR_ARGUMENT if an option has the wrong type.
 */
function checkConfig(config: LstmLanguageModelConfig): Required<LstmLanguageModelConfig> {
  const op = "LstmLanguageModel";
  checkObject(op, "config", config);
  const { width, size = width, dropout = 0, tied = false } = config;
  const full = { ...config, size, dropout, tied };
  for (const name of ["vocabularySize", "contextLength", "layers", "width", "size"] as const)
    checkInteger(op, name, full[name], 1, 2 ** 31 - 1);
  checkNumber(op, "dropout", dropout, 0, 1);
  checkBoolean(op, "tied", tied);
  if (tied && size !== width)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected size to be the width ${width} if the embeddings are tied, got ${size}`,
    );
  return full;
}
