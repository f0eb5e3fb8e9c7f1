// Vectors and ranks of the texts of a request. Requests share batches; a limited number runs.
import { ClassifierModel, type LabelScore } from "../load/classifier-model.js";
import { ApiError } from "./api-error.js";
import type { Call } from "./endpoint.js";
import type { ServedEmbeddingModel, ServedRankingModel } from "./served-models.js";

/** Result for a request, with the number of tokens that were read for it. */
export interface Read<T> {
  result: T;
  tokens: number;
}

/**
 * Returns the vectors of texts. Texts that are too long are cut if `truncate` is true, or if it is not given and the server
 * cuts them.
 */
export function embed(
  served: ServedEmbeddingModel,
  texts: readonly (string | Int32Array)[],
  truncate: boolean | null | undefined,
  call: Call,
  own: { dimensions?: number } = {},
): Promise<Read<Float32Array[]>> {
  return read(served, truncate, call, (options) => served.model.embed(texts, { ...options, ...own }));
}

/** Returns the vectors of the tokens of texts; texts that are too long are cut as in `embed`. */
export function embedTokens(
  served: ServedEmbeddingModel,
  texts: readonly (string | Int32Array)[],
  truncate: boolean | null | undefined,
  call: Call,
): Promise<Read<Float32Array[][]>> {
  return read(served, truncate, call, (options) => served.model.embedTokens(texts, options));
}

/** Returns the documents in the order in which they match a query; those that are too long are cut as in `embed`. */
export function rank(
  served: ServedRankingModel,
  query: string,
  documents: readonly string[],
  truncate: boolean | null | undefined,
  call: Call,
): Promise<Read<{ index: number; score: number }[]>> {
  return read(served, truncate, call, (options) => served.model.rank(query, documents, options));
}

/** Returns how well the texts of each pair match: by a cross-encoder as in `rank`, or by the cosine of their vectors. */
export function scorePairs(
  served: ServedRankingModel | ServedEmbeddingModel,
  pairs: readonly (readonly [string, string])[],
  truncate: boolean | null | undefined,
  call: Call,
): Promise<Read<number[]>> {
  return read(served, truncate, call, async (options) => {
    if (served.model instanceof ClassifierModel) {
      const { model } = served;
      const ranked = await Promise.all(pairs.map(([one, other]) => model.rank(one, [other], options)));
      return ranked.map(([found]) => found!.score);
    }
    const texts = [...new Set(pairs.flat())];
    const vectors = await served.model.embed(texts, options);
    const vectorOf = new Map(texts.map((text, i) => [text, vectors[i]!]));
    return pairs.map(([one, other]) => cosine(vectorOf.get(one)!, vectorOf.get(other)!));
  });
}

/** Returns the probabilities of the model's labels for each text. */
export function classify(
  served: ServedRankingModel,
  texts: readonly (string | Int32Array)[],
  truncate: boolean | null | undefined,
  call: Call,
): Promise<Read<LabelScore[][]>> {
  return read(served, truncate, call, (options) => served.model.classify(texts, options));
}

export function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  const lengths = Math.sqrt(dot(a, a) * dot(b, b));
  return lengths === 0 ? 0 : dot(a, b) / lengths;
}

/** Options of a computation, which counts the tokens that it reads. */
interface Counting {
  signal: AbortSignal;
  onTokens: (count: number) => void;
}

async function read<T>(
  served: ServedEmbeddingModel | ServedRankingModel,
  asked: boolean | null | undefined,
  { observer, signal, limits }: Call,
  compute: (options: Counting) => Promise<T>,
): Promise<Read<T>> {
  const truncate = asked ?? limits.truncate === true;
  const observation = observer.begin("embeddings", served.id);
  let tokens = 0;
  try {
    const onTokens = (count: number): void => {
      tokens += readOf(count, served.contextLength, truncate);
    };
    const result = await served.limit.run(async () => {
      signal.throwIfAborted();
      return compute({ signal, onTokens });
    });
    observation.end({ promptTokens: tokens, completionTokens: 0, finishReasons: [] });
    return { result, tokens };
  } catch (error) {
    observation.end({ promptTokens: tokens, completionTokens: 0, finishReasons: [] }, error);
    throw error;
  }
}

/** Returns how many tokens of a text are read. */
function readOf(length: number, contextLength: number, truncate: boolean): number {
  if (length <= contextLength || truncate) return Math.min(length, contextLength);
  const advice = 'Shorten it, or set "truncate" to true.';
  throw new ApiError(400, `This model takes ${contextLength} tokens, but a text has ${length}. ${advice}`, {
    ...{ param: "input", code: "context_length_exceeded" },
  });
}
