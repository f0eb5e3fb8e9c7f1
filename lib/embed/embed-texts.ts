// Turns texts into vectors with an encoder (Reimers & Gurevych 2019) or a decoder: tokenize, run the model, combine the
// states of each text's tokens into one vector, and scale it to length 1 if the recipe says so.
import { checkArray, checkInteger, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { CausalDecoder } from "../models/causal-decoder.js";
import { Encoder } from "../models/encoder.js";
import { checkPooling, pool, type Pooling } from "../nn/pooling.js";
import { l2Normalize } from "../ops/l2-normalize.js";
import { narrow, reshape } from "../ops/views.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { untilAborted } from "../util/until-aborted.js";
import { type EmbeddingTokenizer, encodeTexts } from "./encode-texts.js";
import { finiteRow } from "./finite-row.js";
import { SequenceQueue, type SequenceTask } from "./sequence-queue.js";

/** Model with a state for every token, from which a text's vector is computed. */
export type EmbeddingEncoder = Encoder | CausalDecoder;

/** Options that determine how a text becomes a vector. */
export interface EmbeddingRecipe {
  /** Way to combine the states of a text's tokens into one vector. @default "mean" */
  pooling?: Pooling;
  /** Scales every vector to length 1, so that dot products are cosines. @default false */
  normalize?: boolean;
  /** Most tokens of a text, special ones included. Longer texts are cut. @default the model's context length */
  maxLength?: number;
  /**
   * Numbers of a vector's beginning that may stand for the whole, as the model was trained for it (matryoshka): some
   * numbers, or all (true). @default none
   */
  matryoshka?: readonly number[] | true;
  /** Number of each vector's first numbers that are kept, before it is scaled. @default all */
  dimensions?: number;
  /** Converts texts to lower case first, whatever the tokenizer does. @default false */
  lowercase?: boolean;
}

/** Options of `embedTexts`. */
export interface EmbedTextsOptions extends EmbeddingRecipe {
  /** Number of texts in one forward pass. @default 32 */
  batchSize?: number;
  /** Aborts the call. */
  signal?: AbortSignal | undefined;
  /** @internal Function that is called with the number of tokens of each text, before the text is cut. */
  onTokens?: ((count: number) => void) | undefined;
}

/**
 * Returns a vector for each text, [C], in the order of the texts. Texts of similar length share a batch, also those of
 * other calls for the same model that run at the same time. For a published model, spread the `recipe` that
 * `loadPretrained` returns into the options. An element of `texts` may be the tokens of a text, special ones included.
 * The usual pooling of a decoder is "last": only its last token has seen the whole text.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16 });
 * const recipe = { pooling: "mean", normalize: true } as const;
 * const [whale, shark] = await embedTexts(bert, tokenizer, ["a whale", "a shark"], { ...recipe, batchSize: 64 });
 * const similarity = whale!.reduce((sum, value, i) => sum + value * shark![i]!, 0);
 *
 * @throws ERR_ARGUMENT if an argument has a wrong type, or a text has no tokens.
 * @throws ERR_RANGE if `batchSize` or `maxLength` is out of range.
 * @throws ERR_DIVERGED if a vector contains NaN or Infinity.
 * @throws The signal's reason if it is aborted.
 * @see Reimers & Gurevych 2019, Sentence-BERT: https://arxiv.org/abs/1908.10084
 */
export async function embedTexts(
  model: EmbeddingEncoder,
  tokenizer: EmbeddingTokenizer,
  texts: readonly (string | Int32Array)[],
  options: EmbedTextsOptions = {},
): Promise<Float32Array[]> {
  const op = "embedTexts";
  const { pooling = "mean", normalize = false } = Object(options) as EmbedTextsOptions;
  checkPooling(op, pooling);
  const kept = dimensionsOf(op, model, options);
  return computed(op, model, tokenizer, texts, options, {
    key: ["embed", pooling, normalize, kept].join(),
    compute({ ids, keyLengths, lengths }) {
      const vectors = cut(pool(statesOf(model, ids, keyLengths), lengths, pooling), kept);
      return normalize ? l2Normalize(vectors) : vectors;
    },
  });
}

/**
 * Returns a vector for each token of each text, [C], special tokens included: what `embedTexts` pools, and what models of
 * late interaction compare. With `normalize`, each of them has the length 1. `pooling` has no effect.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16 });
 * const [whale] = await embedTokens(bert, tokenizer, ["a whale"]);
 * console.log(whale!.length, whale![0]!.length); // the number of tokens, and 16
 *
 * @throws as `embedTexts` does.
 */
export async function embedTokens(
  model: EmbeddingEncoder,
  tokenizer: EmbeddingTokenizer,
  texts: readonly (string | Int32Array)[],
  options: EmbedTextsOptions = {},
): Promise<Float32Array[][]> {
  const op = "embedTokens";
  const { normalize = false } = Object(options) as EmbedTextsOptions;
  const kept = dimensionsOf(op, model, options);
  const rows = await computed(op, model, tokenizer, texts, options, {
    key: ["embed tokens", normalize, kept].join(),
    // Vectors of padding come last, and are left out when the row is read.
    compute({ ids, keyLengths }) {
      const states = cut(statesOf(model, ids, keyLengths).to("f32"), kept);
      const vectors = normalize ? l2Normalize(states) : states;
      return reshape(vectors, [ids.shape[0]!, -1]);
    },
    kept,
  });
  return rows.map((row) => Array.from({ length: row.length / kept }, (_, i) => row.slice(i * kept, (i + 1) * kept)));
}

/** Returns the state of each token, [B, T, C]. */
function statesOf(model: EmbeddingEncoder, ids: IntTensor, keyLengths: IntTensor): FloatTensor {
  return model instanceof Encoder ? model.forward(ids, { keyLengths }) : model.states(ids, { keyLengths });
}

/** Returns the number of a vector's numbers that are kept. */
function dimensionsOf(op: string, model: EmbeddingEncoder, options: EmbedTextsOptions): number {
  if (!(model instanceof Encoder || model instanceof CausalDecoder))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected model to be an encoder or a decoder, such as a Bert or a Llama, got ${describe(model)}`,
    );
  checkObject(op, "options", options);
  const { width } = model.config;
  const { dimensions = width } = options;
  checkInteger(op, "dimensions", dimensions, 1, width);
  return dimensions;
}

/** Returns the first numbers of each vector. */
function cut(vectors: FloatTensor, dimensions: number): FloatTensor {
  const { shape } = vectors;
  return dimensions === shape.at(-1) ? vectors : narrow(vectors, shape.length - 1, 0, dimensions);
}

/** A computation of rows of numbers. */
interface Computation extends Pick<SequenceTask, "key" | "compute"> {
  /** Number of numbers that each token has in a row; null if rows have nothing for single tokens. @default null */
  readonly kept?: number | null;
}

/** Resolves to the row of each text. */
async function computed(
  op: string,
  model: EmbeddingEncoder,
  tokenizer: EmbeddingTokenizer,
  texts: readonly (string | Int32Array)[],
  options: EmbedTextsOptions,
  { kept = null, ...computation }: Computation,
): Promise<Float32Array[]> {
  if (typeof (tokenizer as EmbeddingTokenizer | null)?.encode !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a tokenizer, got ${describe(tokenizer)}`);
  checkArray(op, "texts", texts);
  const { contextLength, vocabularySize } = model.config;
  const { batchSize = 32, lowercase = false, signal, onTokens } = options;
  const { maxLength = contextLength } = options;
  checkInteger(op, "batchSize", batchSize, 1);
  checkInteger(op, "maxLength", maxLength, 1, contextLength);
  signal?.throwIfAborted();

  const given = texts.map((text, i) => {
    if (typeof text === "string") return lowercase ? text.toLowerCase() : text;
    if (text instanceof Int32Array) return text;
    throw new HeedError("ERR_ARGUMENT", `${op}: expected texts[${i}] to be a string, got ${describe(text)}`);
  });
  const task: SequenceTask = { ...computation, batchSize };
  const queue = SequenceQueue.of(model);
  const sequences = await encodeTexts(op, tokenizer, given, {
    ...{ maxLength, vocabularySize, tokenTypes: 0, signal, onTokens },
  });
  const rows = sequences.map(async (sequence, i) => {
    const row = await queue.add(sequence, task, signal);
    return finiteRow(op, `texts[${i}]`, kept === null ? row : row.subarray(0, kept * sequence.ids.length));
  });
  return untilAborted(Promise.all(rows), signal);
}
