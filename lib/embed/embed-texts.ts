// Turns texts into vectors with an encoder (Reimers & Gurevych 2019) or a decoder: tokenize, run the model, combine the
// states of each text's tokens into one vector, and scale it to length 1 if the recipe says so.
import { checkArray, checkInteger, checkObject } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { Bert } from "../models/bert.js";
import { GPT } from "../models/gpt.js";
import { Llama } from "../models/llama.js";
import { checkPooling, pool, type Pooling } from "../nn/pooling.js";
import { l2Normalize } from "../ops/l2-normalize.js";
import { untilAborted } from "../until-aborted.js";
import { type EmbeddingTokenizer, encodeTexts } from "./encode-texts.js";
import { finiteRow } from "./finite-row.js";
import { SequenceQueue, type SequenceTask } from "./sequence-queue.js";

/** Model with a state for every token, from which a text's vector is computed. */
export type EmbeddingEncoder = Bert | GPT | Llama;

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
  if (!(model instanceof Bert || model instanceof GPT || model instanceof Llama))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected model to be a Bert, GPT or Llama, got ${describe(model)}`);
  if (typeof (tokenizer as EmbeddingTokenizer | null)?.encode !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a tokenizer, got ${describe(tokenizer)}`);
  checkArray(op, "texts", texts);
  checkObject(op, "options", options);
  const { contextLength, vocabularySize } = model.config;
  const { pooling = "mean", normalize = false, batchSize = 32, lowercase = false, signal, onTokens } = options;
  const { maxLength = contextLength } = options;
  checkPooling(op, pooling);
  checkInteger(op, "batchSize", batchSize, 1);
  checkInteger(op, "maxLength", maxLength, 1, contextLength);
  signal?.throwIfAborted();

  const given = texts.map((text, i) => {
    if (typeof text === "string") return lowercase ? text.toLowerCase() : text;
    if (text instanceof Int32Array) return text;
    throw new HeedError("ERR_ARGUMENT", `${op}: expected texts[${i}] to be a string, got ${describe(text)}`);
  });
  const task: SequenceTask = {
    key: ["embed", pooling, normalize].join(),
    batchSize,
    compute({ ids, keyLengths, lengths }) {
      const states = model instanceof Bert ? model.forward(ids, { keyLengths }) : model.states(ids, { keyLengths });
      const vectors = pool(states, lengths, pooling);
      return normalize ? l2Normalize(vectors) : vectors;
    },
  };
  const queue = SequenceQueue.of(model);
  const sequences = await encodeTexts(op, tokenizer, given, {
    ...{ maxLength, vocabularySize, tokenTypes: 0, signal, onTokens },
  });
  const rows = sequences.map(async (sequence, i) =>
    finiteRow(op, `texts[${i}]`, await queue.add(sequence, task, signal)),
  );
  return untilAborted(Promise.all(rows), signal);
}
