// The class that `load` returns for encoders: `embedTexts` with the model's own tokenizer and recipe.
import { checkObject } from "../util/check.js";
import {
  type EmbeddingRecipe,
  embedTexts,
  embedTokens,
  type EmbedTextsOptions,
  type EmbeddingEncoder,
} from "../embed/embed-texts.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { definedOptions, Loaded, needed, ofOtherKind } from "./loaded.js";

/** Parts of an `EmbeddingModel`. */
export interface EmbeddingModelParts {
  /** The encoder, or a decoder that makes vectors. The `EmbeddingModel` owns it and disposes it. */
  model: EmbeddingEncoder;
  /** Tokenizer of the model. Without one (null), the model cannot embed texts. */
  tokenizer: Tokenizer | null;
  /** Pooling and normalisation that suit the model. @default null */
  recipe?: EmbeddingRecipe | null;
}

/**
 * A model that turns texts into vectors, with its tokenizer.
 *
 * @example
 * // This downloads a model.
 * using model = await load("sentence-transformers/all-MiniLM-L6-v2", { kind: "encoder" });
 * const [whale, shark] = await model.embed(["a whale", "a shark"]);
 */
export class EmbeddingModel extends Loaded<EmbeddingEncoder> {
  /** Kind of the model. */
  readonly kind = "encoder";
  /** Pooling and normalisation that the model's files specify, or {} if they specify none. */
  readonly recipe: EmbeddingRecipe;
  readonly #tokenizer: Tokenizer | null;

  /** Combines a model with its tokenizer. `load` does this for published and saved models. */
  constructor({ model, tokenizer, recipe = null }: EmbeddingModelParts) {
    super(model);
    this.recipe = recipe ?? {};
    this.#tokenizer = tokenizer;
  }

  /**
   * Tokenizer of the model.
   *
   * @throws ERR_ARGUMENT if the model has no tokenizer and `load` was given none.
   */
  get tokenizer(): Tokenizer {
    return needed(this.#tokenizer);
  }

  /**
   * Returns a vector for each text, [C], in the order of the texts. A text may be given as its tokens. Options that are not
   * given come from `recipe`.
   *
   * @example
   * const [whale, shark] = await model.embed(["a whale", "a shark"], { normalize: true });
   * const similarity = whale!.reduce((sum, value, i) => sum + value * shark![i]!, 0);
   *
   * @throws ERR_ARGUMENT or ERR_RANGE if an argument is invalid, or the model has no tokenizer.
   * @throws The signal's reason if it is aborted.
   */
  async embed(texts: readonly (string | Int32Array)[], options: EmbedTextsOptions = {}): Promise<Float32Array[]> {
    checkObject("embed", "options", options);
    return embedTexts(this.model, this.tokenizer, texts, { ...this.recipe, ...definedOptions(options) });
  }

  /**
   * Returns a vector for each token of each text, special tokens included; see the function `embedTokens`. Options that are
   * not given come from `recipe`.
   *
   * @example
   * const [whale] = await model.embedTokens(["a whale"]);
   * console.log(whale!.length); // the number of tokens
   *
   * @throws as `embed` does.
   */
  async embedTokens(
    texts: readonly (string | Int32Array)[],
    options: EmbedTextsOptions = {},
  ): Promise<Float32Array[][]> {
    checkObject("embedTokens", "options", options);
    return embedTokens(this.model, this.tokenizer, texts, { ...this.recipe, ...definedOptions(options) });
  }

  /**
   * Unavailable: this model does not continue texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get generate(): never {
    return ofOtherKind("generate", "causal", this.kind);
  }

  /**
   * Unavailable: this model does not answer conversations.
   *
   * @throws ERR_ARGUMENT always.
   */
  get chat(): never {
    return ofOtherKind("chat", "causal", this.kind);
  }

  /**
   * Unavailable: this model does not translate texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get translate(): never {
    return ofOtherKind("translate", "encoder-decoder", this.kind);
  }

  /**
   * Unavailable: this model does not classify texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get classify(): never {
    return ofOtherKind("classify", "classifier", this.kind);
  }

  /**
   * Unavailable: this model does not rank documents.
   *
   * @throws ERR_ARGUMENT always.
   */
  get rank(): never {
    return ofOtherKind("rank", "classifier", this.kind);
  }
}
