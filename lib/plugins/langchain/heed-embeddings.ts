// A model of heed behind LangChain's interface of embeddings.
import { Embeddings, type EmbeddingsParams } from "@langchain/core/embeddings";
import type { EmbedTextsOptions } from "../../embed/embed-texts.js";
import type { EmbeddingModel } from "../../load/embedding-model.js";
import { LazyModel, type ModelLoadOptions } from "../lazy-model.js";
import { checkFields, embeddingsNames } from "./fields.js";

const optionNames = [
  "pooling",
  "normalize",
  "maxLength",
  "lowercase",
  "batchSize",
] as const satisfies readonly (keyof EmbedTextsOptions)[];

/** Parameters of `HeedEmbeddings`. Vectors are made as the model's files say, unless an option says otherwise. */
export interface HeedEmbeddingsInput extends EmbeddingsParams, Omit<EmbedTextsOptions, "signal"> {
  /** A loaded model, or a name that `load` takes. Then the first call loads it. */
  model: string | EmbeddingModel;
  /** Options for loading the model. @default {} */
  load?: ModelLoadOptions;
}

/**
 * Embeddings of LangChain that are computed in the process. Calls at the same time share batches.
 *
 * @example
 * // This downloads a model.
 * await using embeddings = new HeedEmbeddings({ model: "sentence-transformers/all-MiniLM-L6-v2" });
 * const vector = await embeddings.embedQuery("How do whales breathe?");
 */
export class HeedEmbeddings extends Embeddings implements AsyncDisposable {
  readonly #model: LazyModel<"encoder">;
  readonly #options: EmbedTextsOptions;

  /**
   * Creates embeddings.
   *
   * @throws ERR_ARGUMENT if the model is neither a name nor an `EmbeddingModel`, or if there is no such option.
   */
  constructor(fields: HeedEmbeddingsInput) {
    checkFields("HeedEmbeddings", fields, [...optionNames, ...embeddingsNames]);
    const { model, load, pooling, normalize, maxLength, lowercase, batchSize, ...params } = fields;
    super(params);
    this.#model = new LazyModel("HeedEmbeddings", "encoder", model, load);
    this.#options = { pooling, normalize, maxLength, lowercase, batchSize } as EmbedTextsOptions;
  }

  /** Resolves to a vector for each document. */
  override async embedDocuments(documents: string[]): Promise<number[][]> {
    const model = await this.#model.get();
    const vectors = await model.embed(documents, this.#options);
    return vectors.map((vector) => Array.from(vector));
  }

  /** Resolves to the vector of a query. */
  override async embedQuery(document: string): Promise<number[]> {
    return (await this.embedDocuments([document]))[0]!;
  }

  /** Frees the model, unless it was given loaded. The next call loads it again. */
  close(): Promise<void> {
    return this.#model.close();
  }

  /** Does the same as `close()`, at the end of the block that declares it with `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
