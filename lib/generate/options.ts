import { HeedError } from "../errors.js";
import { checkInteger, describe } from "../ops/check.js";
import { checkSampling, type SamplingOptions } from "../ops/choose.js";
import type { CausalModel } from "./causal-model.js";

export interface TokenOptions extends SamplingOptions {
  /** The most tokens to generate for a sequence; 256 unless given. */
  maxTokens?: number;
  /** Of the draws; a random one unless given. */
  seed?: number;
  /** Each of these ends its sequence and is not part of the result. */
  stopTokens?: readonly number[];
  /**
   * What happens when a sequence outgrows the model's context. With "error", a prompt that does not fit throws ERR_RANGE,
   * and a sequence that fills the context ends with the finish reason "length". With "slide", the model forgets the start:
   * of a prompt that does not fit only the end is used, and whenever the context is full, generation goes on from its
   * later half, whose cache is computed again. @default "error"
   */
  overflow?: "error" | "slide";
  /** Stops the generation, which rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Called with every token as it comes, and the number of its prompt. */
  onToken?: ((token: number, sequence: number) => void) | undefined;
}

export interface TextOptions extends TokenOptions {
  /** Each of these ends the text and is not part of it. */
  stop?: string | readonly string[];
  /** Whether the text begins with the prompt; false unless given. */
  echo?: boolean;
}

/** Options filled in and checked. */
export interface TokenSettings {
  sampling: Required<SamplingOptions>;
  maxTokens: number;
  seed: number;
  stopTokens: ReadonlySet<number>;
  slide: boolean;
  signal: AbortSignal | undefined;
  onToken: ((token: number, sequence: number) => void) | undefined;
}

function expected(op: string, what: string, value: unknown): HeedError {
  return new HeedError("ERR_ARGUMENT", `${op}: expected ${what}, got ${describe(value)}`);
}

/** Throws ERR_ARGUMENT unless `model` has what a `CausalModel` needs. */
export function checkModel(op: string, model: CausalModel): void {
  const fits =
    typeof model === "object" &&
    model !== null &&
    typeof model.forward === "function" &&
    typeof model.createCache === "function";
  if (!fits) throw expected(op, "a model with forward() and createCache()", model);
}

export function checkOptions(op: string, options: object): void {
  if (typeof options !== "object" || options === null) throw expected(op, "options in an object", options);
}

export function checkSignal(op: string, signal: AbortSignal | undefined): void {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw expected(op, "signal to be an AbortSignal", signal);
}

/** Throws unless `tokens` is a list of integers in [0, V). */
export function checkTokens(op: string, name: string, tokens: ArrayLike<number>, vocabularySize: number): void {
  const list = Array.isArray(tokens) || (ArrayBuffer.isView(tokens) && "length" in tokens);
  if (!list) throw expected(op, `${name} to be an array of token ids`, tokens);
  for (let i = 0; i < tokens.length; i++) checkInteger(op, `${name}[${i}]`, tokens[i], 0, vocabularySize - 1);
}

/** Throws ERR_ARGUMENT or ERR_RANGE for the first option that is not what it has to be. */
export function checkTokenOptions(op: string, model: CausalModel, options: TokenOptions): TokenSettings {
  checkOptions(op, options);
  const { maxTokens = 256, stopTokens = [], overflow = "error", signal, onToken } = options;
  const { seed = Math.floor(Math.random() * 2 ** 53) } = options;
  checkInteger(op, "maxTokens", maxTokens, 1);
  checkInteger(op, "seed", seed, 0);
  checkTokens(op, "stopTokens", stopTokens, model.config.vocabularySize);
  if (overflow !== "slide" && overflow !== "error") throw expected(op, 'overflow to be "error" or "slide"', overflow);
  checkSignal(op, signal);
  if (onToken !== undefined && typeof onToken !== "function") throw expected(op, "onToken to be a function", onToken);
  const sampling = checkSampling(op, options);
  return { sampling, maxTokens, seed, stopTokens: new Set(stopTokens), slide: overflow === "slide", signal, onToken };
}

const loneSurrogate = /\p{Surrogate}/u;

/** The options of text alone, filled in and checked. */
export function checkTextOptions(op: string, options: TextOptions): { stop: readonly string[]; echo: boolean } {
  checkOptions(op, options);
  const { stop = [], echo = false } = options;
  const list: unknown = typeof stop === "string" ? [stop] : stop;
  const usable = (text: unknown): boolean => typeof text === "string" && text !== "" && !loneSurrogate.test(text);
  if (!Array.isArray(list) || !list.every(usable))
    throw expected(op, "stop to be a well-formed string that is not empty, or an array of such", stop);
  if (typeof echo !== "boolean") throw expected(op, "echo to be a boolean", echo);
  return { stop: list as string[], echo };
}
