// Vectors and ranks of the texts of a request. Requests share batches; a limited number runs.
import { ApiError } from "./api-error.js";
import type { Call } from "./endpoint.js";
import type { ServedEmbeddingModel, ServedRankingModel } from "./served-models.js";

/** Result for a request, with the number of tokens that were read for it. */
export interface Read<T> {
  result: T;
  tokens: number;
}

/** Returns the vectors of texts. Texts that are too long are cut if `truncate` is true. */
export function embed(
  served: ServedEmbeddingModel,
  texts: readonly string[],
  truncate: boolean,
  call: Call,
): Promise<Read<Float32Array[]>> {
  const counted = texts.map((text) => () => served.tokensOf(text));
  return read(served, counted, truncate, call, () => served.model.embed(texts, { signal: call.signal }));
}

/** Returns the documents in the order in which they match a query; those that are too long are cut as in `embed`. */
export function rank(
  served: ServedRankingModel,
  query: string,
  documents: readonly string[],
  truncate: boolean,
  call: Call,
): Promise<Read<{ index: number; score: number }[]>> {
  const counted = documents.map((document) => () => served.tokensOf(query, document));
  return read(served, counted, truncate, call, () => served.model.rank(query, documents, { signal: call.signal }));
}

async function read<T>(
  served: ServedEmbeddingModel | ServedRankingModel,
  texts: readonly (() => Promise<Int32Array>)[],
  truncate: boolean,
  { observer, signal }: Call,
  compute: () => Promise<T>,
): Promise<Read<T>> {
  const observation = observer.begin("embeddings", served.id);
  let tokens = 0;
  try {
    const result = await served.limit.run(async () => {
      signal.throwIfAborted();
      for (const text of texts) tokens += countOf(await text(), served.contextLength, truncate);
      return compute();
    });
    observation.end({ promptTokens: tokens, completionTokens: 0, finishReasons: [] });
    return { result, tokens };
  } catch (error) {
    observation.end({ promptTokens: tokens, completionTokens: 0, finishReasons: [] }, error);
    throw error;
  }
}

function countOf({ length }: Int32Array, contextLength: number, truncate: boolean): number {
  if (length <= contextLength || truncate) return Math.min(length, contextLength);
  const advice = 'Shorten it, or set "truncate" to true.';
  throw new ApiError(400, `This model takes ${contextLength} tokens, but a text has ${length}. ${advice}`, {
    ...{ param: "input", code: "context_length_exceeded" },
  });
}
