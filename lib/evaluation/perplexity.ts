import { checkInteger } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { concurrently } from "./concurrently.js";
import { encodeWhole } from "./encode.js";
import { concurrencyOf, engineFor, type EvaluatedModel, type EvaluationSettings } from "./engine-options.js";
import { expOf, meanOf, scaled } from "./statistics.js";
import { windowsOf } from "./windows.js";

/** Options of `perplexity`. */
export interface PerplexityOptions extends EvaluationSettings {
  /** Number of tokens that the model sees at once. @default the model's context */
  contextLength?: number;
  /**
   * Number of tokens by which a sliding window moves on. Each token is then predicted from at least `contextLength -
   * stride` tokens before it, if the text has that many. Null cuts the text into blocks instead, of which each token is
   * predicted from those before it in its block: that is faster, and the perplexity is higher.
   *
   * @default null
   */
  stride?: number | null;
}

/** Perplexity of a text. */
export interface PerplexityResult {
  /** Number of tokens that were predicted. */
  tokens: number;
  /** Number of bytes of the text in UTF-8 that these tokens stand for. */
  bytes: number;
  /** Mean negative log-probability of a token, in nats. */
  loss: number;
  /** Standard error of `loss`, as if tokens were independent; null for a single token. */
  lossStderr: number | null;
  /** Perplexity of a token, e^loss. */
  perplexity: number;
  /** Standard error of `perplexity`. */
  perplexityStderr: number | null;
  /** Bits per byte of the text, by which models with different tokenizers can be compared. */
  bitsPerByte: number;
  /** Standard error of `bitsPerByte`. */
  bitsPerByteStderr: number | null;
}

/**
 * Resolves to the perplexity of a text under a model. The text may be longer than the model's context: it is read in
 * blocks or by a sliding window. Every token is predicted once. The first token is predicted only if the tokenizer has a
 * token that begins a text.
 *
 * @example
 * const { perplexity: blocks, bitsPerByte } = await perplexity({ model: gpt, tokenizer }, "Call me Ishmael.");
 * const slides = await perplexity({ model: gpt, tokenizer }, "Call me Ishmael.", { contextLength: 8, stride: 2 });
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an argument is invalid or the text is too short.
 * @throws ERR_DIVERGED if the model diverges.
 * @throws the signal's reason if the signal aborts.
 */
export async function perplexity(
  evaluated: EvaluatedModel,
  text: string,
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  await using engine = engineFor("perplexity", evaluated, options);
  const { model, tokenizer } = evaluated;
  const { contextLength = model.config.contextLength, stride = null, adapter, signal, onProgress } = options;
  checkInteger("perplexity", "contextLength", contextLength, 1, model.config.contextLength);
  if (stride !== null) checkInteger("perplexity", "stride", stride, 1, contextLength);
  if (typeof text !== "string")
    throw new HeedError("ERR_ARGUMENT", `perplexity: expected text to be a string, got ${describe(text)}`);
  const { tokens, first } = await encodeWhole(tokenizer, text);
  if (tokens.length <= first)
    throw new HeedError("ERR_ARGUMENT", `perplexity: expected a text with tokens to predict, got ${describe(text)}`);
  const windows = windowsOf(tokens.length, first, contextLength, stride);
  let done = 0;
  const scores = await concurrently(
    windows,
    concurrencyOf(options),
    async ({ from, first, to }, _, signal) => {
      const given = tokens.subarray(from, to);
      const { logProbabilities } = await engine.score({ tokens: given, first: first - from, adapter, signal });
      onProgress?.(++done, windows.length);
      return logProbabilities;
    },
    signal,
  );
  const losses = scores.flatMap((some) => Array.from(some, (value) => -value));
  const loss = meanOf(losses);
  const whole = expOf(loss);
  // What begins the text is not part of it.
  const isAdded = [tokenizer.beginningOfText, tokenizer.endOfText].includes(tokens[0]);
  const unread = Buffer.byteLength(isAdded ? "" : tokenizer.decode(tokens.subarray(0, first)));
  const bytes = Buffer.byteLength(text) - unread;
  const bits = scaled(loss, losses.length / bytes / Math.LN2);
  return {
    ...{ tokens: losses.length, bytes, loss: loss.value, lossStderr: loss.stderr },
    ...{ perplexity: whole.value, perplexityStderr: whole.stderr },
    ...{ bitsPerByte: bits.value, bitsPerByteStderr: bits.stderr },
  };
}
