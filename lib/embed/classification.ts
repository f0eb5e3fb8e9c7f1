// Computes the logits of a classifier for texts and pairs of texts, and turns them into scores. Calls for the same model
// share batches.
import { checkArray, checkInteger } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import type { TextClassifier } from "../models/encoder.js";
import { untilAborted } from "../util/until-aborted.js";
import { encodeTexts, type PairTokenizer, type TextPair } from "./encode-texts.js";
import { finiteRow } from "./finite-row.js";
import { SequenceQueue, type SequenceTask } from "./sequence-queue.js";

/**
 * Function that turns logits into scores: "softmax" makes probabilities of labels of which one applies, "sigmoid" of
 * labels each of which may apply, and "none" returns the logits.
 */
export type ScoreFunction = "softmax" | "sigmoid" | "none";

/** Functions that turn the logits of a classifier into scores. */
export interface ClassificationRecipe {
  /** Function for `classify`. @default "sigmoid" for a single label, otherwise "softmax" */
  classify?: ScoreFunction;
  /** Function for `rank`. @default "sigmoid" */
  rank?: "sigmoid" | "none";
}

/** Options for classifying texts. */
export interface ClassifyOptions {
  /** Most tokens of a text or a pair, special ones included. Longer texts are cut. @default the model's context length */
  maxLength?: number;
  /** Number of texts in one forward pass. @default 32 */
  batchSize?: number;
  /** Aborts the call. */
  signal?: AbortSignal | undefined;
  /** @internal Function that is called with the number of tokens of each text, before the text is cut. */
  onTokens?: ((count: number) => void) | undefined;
}

/**
 * Resolves to the logits of each text or pair, [labels].
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an argument is invalid.
 * @throws ERR_DIVERGED if logits contain NaN or Infinity.
 * @throws The signal's reason if it is aborted.
 */
export async function logitsOfTexts(
  op: string,
  model: TextClassifier,
  tokenizer: PairTokenizer,
  texts: readonly (string | TextPair | Int32Array)[],
  options: ClassifyOptions,
): Promise<Float32Array[]> {
  checkArray(op, "texts", texts);
  for (const [i, text] of texts.entries()) checkText(op, `texts[${i}]`, text);
  const { contextLength } = model.encoder.config;
  const { maxLength = contextLength, batchSize = 32, signal, onTokens } = options;
  checkInteger(op, "batchSize", batchSize, 1);
  checkInteger(op, "maxLength", maxLength, 1, contextLength);
  signal?.throwIfAborted();
  const task: SequenceTask = {
    key: "classify",
    batchSize,
    compute: ({ ids, tokenTypes, keyLengths }) => model.forward(ids, { tokenTypes, keyLengths }).to("f32"),
  };
  const queue = SequenceQueue.of(model);
  const sequences = await encodeTexts(op, tokenizer, texts, { ...model.encoder.config, maxLength, signal, onTokens });
  const rows = sequences.map(async (sequence, i) =>
    finiteRow(op, `texts[${i}]`, await queue.add(sequence, task, signal)),
  );
  return untilAborted(Promise.all(rows), signal);
}

function checkText(op: string, name: string, text: unknown): void {
  if (typeof text === "string" || text instanceof Int32Array) return;
  if (Array.isArray(text) && text.length === 2 && text.every((part) => typeof part === "string")) return;
  throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be a string or two of them, got ${describe(text)}`);
}

/** Returns the scores of labels from their logits. */
export function scoresOf(logits: Float32Array, score: ScoreFunction): number[] {
  const values = Array.from(logits);
  if (score === "none") return values;
  if (score === "sigmoid") return values.map((x) => 1 / (1 + Math.exp(-x)));
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = values.map((x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
