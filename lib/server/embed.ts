// Vectors of the texts of a request. Requests take turns, since each fills the device, and a limited number waits.
import { ApiError } from "./api-error.js";
import type { Call } from "./endpoint.js";
import type { ServedEmbeddingModel } from "./served-models.js";

/** Returns the vectors of texts and their number of tokens. Texts that are too long are cut if `truncate` is true. */
export async function embed(
  served: ServedEmbeddingModel,
  texts: readonly string[],
  truncate: boolean,
  { observer, signal }: Call,
): Promise<{ vectors: Float32Array[]; tokens: number }> {
  const observation = observer.begin("embeddings", served.id);
  let tokens = 0;
  try {
    const vectors = await served.inTurn(async () => {
      signal.throwIfAborted();
      for (const text of texts) tokens += await countTokens(served, text, truncate);
      return served.model.embed(texts, { signal });
    });
    observation.end({ promptTokens: tokens, completionTokens: 0, finishReasons: [] });
    return { vectors, tokens };
  } catch (error) {
    observation.end({ promptTokens: tokens, completionTokens: 0, finishReasons: [] }, error);
    throw error;
  }
}

async function countTokens(served: ServedEmbeddingModel, text: string, truncate: boolean): Promise<number> {
  const { contextLength } = served;
  const { length } = await served.tokensOf(text);
  if (length <= contextLength || truncate) return Math.min(length, contextLength);
  const advice = 'Shorten it, or set "truncate" to true.';
  throw new ApiError(400, `This model takes ${contextLength} tokens, but a text has ${length}. ${advice}`, {
    ...{ param: "input", code: "context_length_exceeded" },
  });
}
