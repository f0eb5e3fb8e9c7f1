export type { ModelLoadOptions } from "../lazy-model.js";
export { ChatHeed, type ChatHeedCallOptions, type ChatHeedInput, type ChatHeedSettings } from "./chat-heed.js";
export { HeedEmbeddings, type HeedEmbeddingsInput } from "./heed-embeddings.js";
