import { HeedError } from "../util/errors.js";
import { describe } from "../ops/check.js";
import type { NextTokens } from "../structured/constraint.js";
import type { CausalModel } from "./causal-model.js";
import { checkTokens } from "./options.js";

/**
 * Reason why a sequence ended: "stop" for one of `stopTokens`, a string of `stop` or the end of what `format` allows,
 * "length" if it has as many tokens as `maxTokens` or the context allows, "tool-calls" if the text ended with calls of
 * tools, "deadline" if the `deadline` of an engine's request passed.
 */
export type FinishReason = "stop" | "length" | "tool-calls" | "deadline";

/** A prompt and the tokens that have been generated after it. */
export interface Sequence {
  /** Index of its prompt. */
  readonly index: number;
  /**
   * The prompt, or the end of it if it does not fit into the context, followed by the generated tokens. Sequences with
   * the same prompt share it until one of them gets a token.
   */
  tokens: readonly number[];
  /** Number of tokens that are the prompt's. */
  readonly prompt: number;
  /** Maximum number of tokens to generate. */
  readonly limit: number;
  /** Index of its first random number in the seed's sequence. */
  readonly stream: number;
  /** Form that the text has to have; null if it has none. */
  constraint: NextTokens | null;
  /** Number of the prompt's tokens whose keys and values were there already. */
  cached: number;
  finish: FinishReason | null;
  /** True if the model diverged on this sequence. It has then ended, and `finish` stays null. */
  diverged: boolean;
}

/** Returns true if a sequence gets no more tokens. */
export function hasEnded({ finish, diverged }: Sequence): boolean {
  return finish !== null || diverged;
}

/** Returns the number of tokens that were generated for a sequence. */
export function generated({ tokens, prompt }: Sequence): number {
  return tokens.length - prompt;
}

/** Adds a token to a sequence. The first one parts it from those with the same prompt. */
export function addToken(sequence: Sequence, token: number): void {
  if (generated(sequence) === 0) sequence.tokens = sequence.tokens.slice();
  (sequence.tokens as number[]).push(token);
}

/** Returns the number of latest tokens that a model keeps when its context is full: half of the context. */
export function keptTokens(contextLength: number): number {
  return Math.ceil(contextLength / 2);
}

/** Limits of sequences. */
interface SequenceLimits {
  readonly maxTokens: number;
  readonly slide: boolean | null;
  /** Largest number of tokens that the model sees. @default the context of the model */
  readonly contextLength?: number | undefined;
}

/**
 * Checks the prompts and returns a sequence for each. `slide` is null if the operation has no option `overflow`: a
 * prompt that does not fit then throws as with "error", but the message does not recommend "slide". `nameOf` returns
 * what errors call a prompt.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if a prompt is invalid or does not fit.
 */
export function sequencesOf(
  op: string,
  model: CausalModel,
  prompts: readonly ArrayLike<number>[],
  { maxTokens, slide, contextLength = model.config.contextLength }: SequenceLimits,
  nameOf = (index: number): string => `prompts[${index}]`,
): Sequence[] {
  const { vocabularySize } = model.config;
  if (!Array.isArray(prompts) || prompts.length === 0)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected an array of prompts, got ${describe(prompts)}`);
  const copies = new Map<string, number>();
  // A prompt may be long, and given many times.
  const known = new Map<ArrayLike<number>, ReadPrompt>();
  const limits = { contextLength, vocabularySize, slide };
  for (const [index, prompt] of (prompts as readonly ArrayLike<number>[]).entries())
    if (!known.has(prompt)) known.set(prompt, readPrompt(op, nameOf(index), prompt, limits));
  return prompts.map((prompt: ArrayLike<number>, index) => {
    const read = known.get(prompt)!;
    const { tokens } = read;
    // A draw depends on the position in the sequence, so a sequence gets the same tokens alone and in a batch. Copies
    // of one prompt draw differently.
    const key = known.size > 1 ? (read.key ??= Array.from(prompt).join()) : "";
    const copy = copies.get(key) ?? 0;
    copies.set(key, copy + 1);
    const room = contextLength + 1 - tokens.length;
    const limit = slide ? maxTokens : Math.min(maxTokens, room);
    const stream = streamOf(copy) + prompt.length;
    const begun = { constraint: null, cached: 0, finish: null, diverged: false };
    return { index, tokens, prompt: tokens.length, limit, stream, ...begun };
  });
}

/** The tokens of a prompt that fit into the context, and what tells it apart from others: all of its tokens. */
interface ReadPrompt {
  readonly tokens: readonly number[];
  key: string | null;
}

/** Checks a prompt. */
function readPrompt(
  op: string,
  name: string,
  prompt: ArrayLike<number>,
  { contextLength, vocabularySize, slide }: { contextLength: number; vocabularySize: number; slide: boolean | null },
): ReadPrompt {
  checkTokens(op, name, prompt, vocabularySize);
  if (prompt.length === 0)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to have at least one token, got none`);
  if (!slide && prompt.length > contextLength) {
    const advice = slide === null ? "" : '; overflow: "slide" drops the start';
    throw new HeedError(
      "ERR_RANGE",
      `${op}: expected ${name} to fit into the context of ${contextLength} tokens, got ${prompt.length}${advice}`,
    );
  }
  return { tokens: Array.from(prompt).slice(-contextLength), key: null };
}

/**
 * Returns where a copy's random numbers begin: multiples of 2³²/φ, which spread about evenly over the 2³² numbers of a
 * seed, however many copies there are.
 */
function streamOf(copy: number): number {
  return Math.imul(copy, 0x9e3779b1);
}
