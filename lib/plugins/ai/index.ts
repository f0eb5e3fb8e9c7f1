export type { ModelLoadOptions } from "../lazy-model.js";
export type { HeedLanguageModelOptions } from "./call-options.js";
export { HeedEmbeddingModel, type HeedEmbeddingOptions } from "./embedding-model.js";
export { HeedLanguageModel } from "./language-model.js";
export { createHeed, heed, type HeedProvider } from "./provider.js";
export { HeedRerankingModel, type HeedRerankingOptions } from "./reranking-model.js";
