import { HeedError } from "../util/errors.js";
import { checkInteger, checkNumber, checkObject, describe, largestFloat } from "../ops/check.js";
import { checkSampling, type RowSampling, type SamplingOptions } from "../ops/sample.js";
import type { OutputFormat } from "../structured/output-format.js";
import type { CausalModel } from "./causal-model.js";
import type { TokenBiases } from "./logit-rules.js";
import { checkStops } from "./stop-texts.js";

/** Options for generating tokens. */
export interface TokenOptions extends SamplingOptions {
  /** Maximum number of tokens to generate for a sequence. @default 256; in answers to conversations, all that fit */
  maxTokens?: number;
  /** Seed of the random choice of tokens. The same seed gives the same tokens. @default a random number */
  seed?: number;
  /**
   * Tokens that end a sequence. The stop token is not part of the result. By default a text ends with the tokenizer's
   * end-of-text token, and a call for tokens has no stop tokens.
   */
  stopTokens?: readonly number[];
  /** Number of tokens before which no token of `stopTokens` is chosen. @default 0 */
  minTokens?: number;
  /**
   * Numbers that are added to the logits of single tokens, by token id, before a token is chosen. -Infinity excludes a
   * token.
   *
   * @default {}
   */
  logitBias?: Readonly<Record<number, number>>;
  /**
   * Behavior for a sequence that outgrows the model's context. With "error", a prompt that does not fit throws
   * ERR_RANGE, and a sequence that fills the context ends with the finish reason "length". With "slide", the model
   * forgets the start of the sequence: only the end of a prompt that does not fit is used, and whenever the context is
   * full, generation continues from its later half, whose cache is computed again.
   *
   * @default "error"
   */
  overflow?: "error" | "slide";
  /** Signal that stops the generation. The promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Function that is called with every token as soon as it is generated, and with the index of its prompt. */
  onToken?: ((token: number, sequence: number) => void) | undefined;
}

/** Options for generating text. */
export interface TextOptions extends TokenOptions {
  /**
   * Strings that end the text: at most 16, each of at most 1,000 characters. The stop string is not part of the text.
   *
   * @default []
   */
  stop?: string | readonly string[];
  /** True if the text begins with the prompt. @default false */
  echo?: boolean;
  /**
   * Form that the text has to have. A text that ends with the finish reason "stop" has it, and one that ends otherwise is
   * the beginning of such a text; strings of `stop` may cut it anywhere. It needs a tokenizer that decodes to bytes.
   *
   * @default null
   */
  format?: OutputFormat | null | undefined;
}

/** The options after they have been checked and filled in with defaults. */
export interface TokenSettings {
  sampling: Required<RowSampling>;
  maxTokens: number;
  stopTokens: ReadonlySet<number>;
  minTokens: number;
  /** Token ids and the numbers that are added to their logits. */
  logitBias: TokenBiases;
  slide: boolean;
  signal: AbortSignal | undefined;
  onToken: ((token: number, sequence: number) => void) | undefined;
}

function expected(op: string, what: string, value: unknown): HeedError {
  return new HeedError("ERR_ARGUMENT", `${op}: expected ${what}, got ${describe(value)}`);
}

/**
 * Checks that `model` has the methods that a `CausalModel` needs.
 *
 * @throws ERR_ARGUMENT if it does not.
 */
export function checkModel(op: string, model: CausalModel): void {
  const fits =
    typeof model === "object" &&
    model !== null &&
    typeof model.forward === "function" &&
    typeof model.createCache === "function";
  if (!fits) throw expected(op, "a model with forward() and createCache()", model);
}

export function checkOptions(op: string, options: object): void {
  if (typeof options !== "object" || options === null) throw expected(op, "options to be an object", options);
}

export function checkSignal(op: string, signal: AbortSignal | undefined): void {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw expected(op, "signal to be an AbortSignal", signal);
}

/**
 * Checks that `tokens` is a list of integers in [0, V).
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if it is not.
 */
export function checkTokens(op: string, name: string, tokens: ArrayLike<number>, vocabularySize: number): void {
  const list = Array.isArray(tokens) || (ArrayBuffer.isView(tokens) && "length" in tokens);
  if (!list) throw expected(op, `${name} to be an array of token ids`, tokens);
  for (let i = 0; i < tokens.length; i++) {
    const token: unknown = tokens[i];
    // The name of a token is made only for an error: a prompt has thousands of them.
    if (!(Number.isInteger(token) && (token as number) >= 0 && (token as number) < vocabularySize))
      checkInteger(op, `${name}[${i}]`, token, 0, vocabularySize - 1);
  }
}

/**
 * Checks the options and fills in defaults.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE for the first invalid option.
 */
export function checkTokenOptions(op: string, model: CausalModel, options: TokenOptions): TokenSettings {
  checkOptions(op, options);
  const { maxTokens = 256, stopTokens = [], overflow = "error", signal, onToken } = options;
  const { seed = Math.floor(Math.random() * 2 ** 53), minTokens = 0, logitBias = {} } = options;
  checkInteger(op, "maxTokens", maxTokens, 1);
  checkInteger(op, "minTokens", minTokens, 0, maxTokens);
  checkInteger(op, "seed", seed, 0);
  checkTokens(op, "stopTokens", stopTokens, model.config.vocabularySize);
  if (overflow !== "slide" && overflow !== "error") throw expected(op, 'overflow to be "error" or "slide"', overflow);
  checkSignal(op, signal);
  if (onToken !== undefined && typeof onToken !== "function") throw expected(op, "onToken to be a function", onToken);
  return {
    sampling: { ...checkSampling(op, options), seed },
    maxTokens,
    stopTokens: new Set(stopTokens),
    minTokens,
    logitBias: checkLogitBias(op, logitBias, model.config.vocabularySize),
    slide: overflow === "slide",
    signal,
    onToken,
  };
}

/** Checks a logit bias and returns its tokens and numbers. */
function checkLogitBias(
  op: string,
  bias: Readonly<Record<number, number>>,
  vocabularySize: number,
): [token: number, bias: number][] {
  checkObject(op, "logitBias", bias);
  return Object.entries(bias).map(([key, value]) => {
    const token = Number(key);
    const inVocabulary = Number.isInteger(token) && token >= 0 && token < vocabularySize;
    if (!inVocabulary) throw expected(op, `the keys of logitBias to be token ids below ${vocabularySize}`, key);
    if (value !== -Infinity) checkNumber(op, `logitBias[${key}]`, value, -largestFloat, largestFloat);
    return [token, value];
  });
}

/**
 * Checks the options that only text has, and fills in defaults.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE for the first invalid option.
 */
export function checkTextOptions(op: string, options: TextOptions): { stop: readonly string[]; echo: boolean } {
  checkOptions(op, options);
  const { stop = [], echo = false } = options;
  const stops = checkStops(op, stop);
  if (typeof echo !== "boolean") throw expected(op, "echo to be a boolean", echo);
  return { stop: stops, echo };
}
