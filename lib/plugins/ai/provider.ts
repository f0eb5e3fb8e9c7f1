// The provider of the AI SDK: it makes models of all kinds and knows those that it has loaded.
import type { ProviderV3 } from "@ai-sdk/provider";
import type { ModelKinds } from "../../load/load.js";
import type { ClassifierModel } from "../../load/classifier-model.js";
import type { EmbeddingModel } from "../../load/embedding-model.js";
import type { LanguageModel } from "../../load/language-model.js";
import { LazyModel, type ModelLoadOptions, type PluginKind } from "../lazy-model.js";
import { HeedEmbeddingModel } from "./embedding-model.js";
import { HeedLanguageModel } from "./language-model.js";
import { noSuchModel } from "./no-such-model.js";
import { HeedRerankingModel } from "./reranking-model.js";

/**
 * Makes models for the functions of the AI SDK, in the process. A model is given loaded, or by a name that `load` takes;
 * then the first call loads it, and rejects with the AI SDK's NoSuchModelError if there is no model of this name. Equal names with equal options stand for the same model, which is loaded once.
 */
export interface HeedProvider extends ProviderV3, AsyncDisposable {
  /**
   * Returns a language model.
   *
   * @throws ERR_ARGUMENT if the model is neither a name nor a `LanguageModel`.
   */
  (model: string | LanguageModel, options?: ModelLoadOptions): HeedLanguageModel;
  /** Does the same as calling the provider. */
  languageModel(model: string | LanguageModel, options?: ModelLoadOptions): HeedLanguageModel;
  /**
   * Returns an embedding model.
   *
   * @throws ERR_ARGUMENT if the model is neither a name nor an `EmbeddingModel`.
   */
  embedding(model: string | EmbeddingModel, options?: ModelLoadOptions): HeedEmbeddingModel;
  /** Does the same as `embedding`. */
  embeddingModel(model: string | EmbeddingModel, options?: ModelLoadOptions): HeedEmbeddingModel;
  /**
   * Returns a reranking model, which is a classifier with a single label.
   *
   * @throws ERR_ARGUMENT if the model is neither a name nor a `ClassifierModel`.
   */
  reranking(model: string | ClassifierModel, options?: ModelLoadOptions): HeedRerankingModel;
  /** Does the same as `reranking`. */
  rerankingModel(model: string | ClassifierModel, options?: ModelLoadOptions): HeedRerankingModel;
  /** Frees all models that the provider has loaded. The next call of a model loads it again. */
  close(): Promise<void>;
}

/**
 * Returns a provider with models of its own.
 *
 * @example
 * // This downloads a model.
 * await using provider = createHeed();
 * const { text } = await generateText({ model: provider("Qwen/Qwen3-0.6B"), prompt: "Why is the sky blue?" });
 */
export function createHeed(): HeedProvider {
  const models: LazyModel<PluginKind>[] = [];

  /** Returns the model with this name and these options, or a new one. */
  function find<K extends PluginKind>(
    op: string,
    kind: K,
    source: string | ModelKinds[K],
    options: ModelLoadOptions = {},
  ): LazyModel<K> {
    if (source === "") throw noSuchModel(source, kind, `${op}: expected the name of a model, got ""`);
    const known = models.find(
      (model) => model.kind === kind && model.source === source && same(model.options, options),
    );
    if (known) return known as LazyModel<K>;
    const model = new LazyModel(op, kind, source, options);
    if (typeof source === "string") models.push(model);
    return model;
  }

  const language: HeedProvider["languageModel"] = (...given) => new HeedLanguageModel(find("heed", "causal", ...given));
  const embedding: HeedProvider["embedding"] = (...given) =>
    new HeedEmbeddingModel(find("heed.embedding", "encoder", ...given));
  const reranking: HeedProvider["reranking"] = (...given) =>
    new HeedRerankingModel(find("heed.reranking", "classifier", ...given));
  const close = async (): Promise<void> => {
    await Promise.all(models.map((model) => model.close()));
  };
  return Object.assign((...given: Parameters<typeof language>) => language(...given), {
    ...{ specificationVersion: "v3" as const, languageModel: language },
    ...{ embedding, embeddingModel: embedding, reranking, rerankingModel: reranking },
    imageModel: (name: string): never => {
      throw noSuchModel(name, "image", `heed.imageModel: expected a model of texts, got ${JSON.stringify(name)}`);
    },
    ...{ close, [Symbol.asyncDispose]: close },
  });
}

function same(a: ModelLoadOptions, b: ModelLoadOptions): boolean {
  const [x, y] = [new Map(Object.entries(a)), new Map(Object.entries(b))];
  return x.size === y.size && [...x].every(([name, value]) => y.has(name) && Object.is(y.get(name), value));
}

/**
 * The provider with which most programs make their models.
 *
 * @example
 * // This downloads a model.
 * const result = streamText({ model: heed("Qwen/Qwen3-0.6B"), prompt: "Why is the sky blue?" });
 * for await (const text of result.textStream) process.stdout.write(text);
 */
export const heed: HeedProvider = createHeed();
