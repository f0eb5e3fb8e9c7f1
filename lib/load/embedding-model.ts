import { checkObject } from "../check.js";
import { type EmbeddingRecipe, embedTexts, type EmbedTextsOptions } from "../embed/embed-texts.js";
import type { Bert } from "../models/bert.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { definedOptions, Loaded, needed, ofOtherKind } from "./loaded.js";

export interface EmbeddingModelParts {
  model: Bert;
  tokenizer: Tokenizer | null;
  recipe?: EmbeddingRecipe | null;
}

/** A model that makes vectors of texts, with its tokenizer. */
export class EmbeddingModel extends Loaded<Bert> {
  readonly kind = "encoder";
  /** The pooling and the normalisation that the source asks for; {} where it says nothing of them. */
  readonly recipe: EmbeddingRecipe;
  readonly #tokenizer: Tokenizer | null;

  constructor({ model, tokenizer, recipe = null }: EmbeddingModelParts) {
    super(model);
    this.recipe = recipe ?? {};
    this.#tokenizer = tokenizer;
  }

  /** @throws ERR_ARGUMENT where the source has no tokenizer and none was given. */
  get tokenizer(): Tokenizer {
    return needed(this.#tokenizer);
  }

  /**
   * Resolves to a vector for each text, in their order, by the model's `recipe` for all that `options` does not say.
   *
   * @throws ERR_ARGUMENT or ERR_RANGE for a bad argument; rejects with the signal's reason.
   */
  async embed(texts: readonly string[], options: EmbedTextsOptions = {}): Promise<Float32Array[]> {
    checkObject("embed", "options", options);
    return embedTexts(this.model, this.tokenizer, texts, { ...this.recipe, ...definedOptions(options) });
  }

  get generate(): never {
    return ofOtherKind("generate", "causal", this.kind);
  }

  get chat(): never {
    return ofOtherKind("chat", "causal", this.kind);
  }

  get translate(): never {
    return ofOtherKind("translate", "encoder-decoder", this.kind);
  }
}
