// A model of heed behind the AI SDK's interface of reranking models.
import type { RerankingModelV3, RerankingModelV3CallOptions } from "@ai-sdk/provider";
import type { ClassifyOptions } from "../../embed/classification.js";
import { definedOptions } from "../../load/loaded.js";
import type { RankOptions } from "../../load/classifier-model.js";
import type { LazyModel } from "../lazy-model.js";
import { checkNames } from "../option-names.js";
import { loaded } from "./no-such-model.js";

const ownNames = ["maxLength", "batchSize"] as const;

/**
 * Options of `ClassifierModel.rank` for `providerOptions.heed`.
 *
 * @example
 * const own: HeedRerankingOptions = { batchSize: 8 };
 */
export type HeedRerankingOptions = Pick<ClassifyOptions, (typeof ownNames)[number]>;

/** A reranking model for the function `rerank` of the AI SDK. */
export class HeedRerankingModel implements RerankingModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = "heed";
  /** Name of the model. */
  readonly modelId: string;
  // `ai` 7 calls methods on a proxy of the model, which has no #private fields.
  private readonly lazy: LazyModel<"classifier">;

  /** @internal Use `heed.reranking()`. */
  constructor(model: LazyModel<"classifier">) {
    this.lazy = model;
    this.modelId = model.id;
  }

  /**
   * Resolves to the documents in the order in which they match the query. Documents that are objects are read as JSON.
   *
   * @throws The AI SDK's NoSuchModelError if there is no reranking model of this name, and the errors of
   *   `ClassifierModel.rank`.
   */
  async doRerank({
    query,
    documents,
    topN,
    abortSignal: signal,
    providerOptions,
  }: RerankingModelV3CallOptions): Promise<Awaited<ReturnType<RerankingModelV3["doRerank"]>>> {
    const own: HeedRerankingOptions = providerOptions?.heed ?? {};
    checkNames("heed.reranking", "providerOptions.heed", own, ownNames);
    const texts = documents.type === "text" ? documents.values : documents.values.map((value) => JSON.stringify(value));
    const model = await loaded(this.lazy, signal);
    const ranked = await model.rank(query, texts, definedOptions<RankOptions>({ ...own, top: topN, signal }));
    return { ranking: ranked.map(({ index, score }) => ({ index, relevanceScore: score })), warnings: [] };
  }

  /** Frees the model, unless it was given loaded. The next call loads it again. */
  close(): Promise<void> {
    return this.lazy.close();
  }
}
