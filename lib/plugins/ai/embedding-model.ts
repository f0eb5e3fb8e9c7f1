// A model of heed behind the AI SDK's interface of embedding models.
import type { EmbeddingModelV3, EmbeddingModelV3CallOptions, EmbeddingModelV3Result } from "@ai-sdk/provider";
import type { EmbedTextsOptions } from "../../embed/embed-texts.js";
import type { EmbeddingModel } from "../../load/embedding-model.js";
import { encodeText } from "../../tokenizer/tokenizer.js";
import type { LazyModel } from "../lazy-model.js";
import { checkNames } from "../option-names.js";
import { loaded } from "./no-such-model.js";

const ownNames = ["pooling", "normalize", "maxLength", "lowercase", "batchSize"] as const;

/**
 * Options of `EmbeddingModel.embed` for `providerOptions.heed`. By default, vectors are made as the model's files say.
 *
 * @example
 * const own: HeedEmbeddingOptions = { normalize: true, maxLength: 128 };
 */
export type HeedEmbeddingOptions = Pick<EmbedTextsOptions, (typeof ownNames)[number]>;

/** An embedding model for functions of the AI SDK, such as `embed` and `embedMany`. */
export class HeedEmbeddingModel implements EmbeddingModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = "heed";
  /** Name of the model. */
  readonly modelId: string;
  // `ai` 7 calls methods on a proxy of the model, which has no #private fields.
  private readonly lazy: LazyModel<"encoder">;
  readonly maxEmbeddingsPerCall = Infinity;
  /** Calls at the same time share batches. */
  readonly supportsParallelCalls = true;
  /** @internal Use `heed.embedding()`. */
  constructor(model: LazyModel<"encoder">) {
    this.lazy = model;
    this.modelId = model.id;
  }

  /**
   * Resolves to a vector for each text, and the number of tokens that were read.
   *
   * @throws The AI SDK's NoSuchModelError if there is no embedding model of this name, and the errors of
   *   `EmbeddingModel.embed`.
   */
  async doEmbed({
    values,
    abortSignal: signal,
    providerOptions,
  }: EmbeddingModelV3CallOptions): Promise<EmbeddingModelV3Result> {
    const own: HeedEmbeddingOptions = providerOptions?.heed ?? {};
    checkNames("heed.embedding", "providerOptions.heed", own, ownNames);
    const model = await loaded(this.lazy, signal);
    const vectors = await model.embed(values, { ...own, signal });
    const tokens = await countTokens(model, values, own);
    return { embeddings: vectors.map((vector) => Array.from(vector)), usage: { tokens }, warnings: [] };
  }

  /** Frees the model, unless it was given loaded. The next call loads it again. */
  close(): Promise<void> {
    return this.lazy.close();
  }
}

async function countTokens(
  { model, tokenizer, recipe }: EmbeddingModel,
  texts: readonly string[],
  own: HeedEmbeddingOptions,
): Promise<number> {
  const { maxLength = model.config.contextLength, lowercase = false } = { ...recipe, ...own };
  let tokens = 0;
  for (const text of texts)
    tokens += Math.min(maxLength, (await encodeText(tokenizer, lowercase ? text.toLowerCase() : text)).length);
  return tokens;
}
