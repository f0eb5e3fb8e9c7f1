import { HeedError } from "../errors.js";
import { describe } from "../ops/check.js";
import type { CausalModel } from "./causal-model.js";
import { checkTokens } from "./options.js";

/**
 * Why a sequence ended: one of `stopTokens` or of the strings of `stop` came ("stop"), or it has as many tokens as
 * `maxTokens` or the context allows ("length").
 */
export type FinishReason = "stop" | "length";

/** A prompt and what has been generated after it. */
export interface Sequence {
  /** The number of its prompt. */
  readonly index: number;
  /** The prompt, or the end of it that fits into the context, and the generated tokens. */
  readonly tokens: number[];
  /** How many of the tokens are the prompt's. */
  readonly prompt: number;
  /** The most tokens to generate. */
  readonly limit: number;
  /** Which of the seed's random numbers is its first. */
  readonly stream: number;
  finish: FinishReason | null;
  /** Tells whether the model diverged on this sequence. It has then ended, and `finish` stays null. */
  diverged: boolean;
}

/** Tells whether a sequence gets no more tokens. */
export function hasEnded({ finish, diverged }: Sequence): boolean {
  return finish !== null || diverged;
}

/** Returns the number of tokens that were generated for a sequence. */
export function generated({ tokens, prompt }: Sequence): number {
  return tokens.length - prompt;
}

/** How many of the latest tokens a model goes on from when its context is full: half of it. */
export function keptTokens(contextLength: number): number {
  return Math.ceil(contextLength / 2);
}

/**
 * Checks the prompts and makes sequences of them. `slide` is null where the operation has no option `overflow`: it then does
 * what "error" does, and the error recommends nothing. `nameOf` is what errors call a prompt.
 */
export function sequencesOf(
  op: string,
  model: CausalModel,
  prompts: readonly ArrayLike<number>[],
  { maxTokens, slide }: { maxTokens: number; slide: boolean | null },
  nameOf = (index: number): string => `prompts[${index}]`,
): Sequence[] {
  const { contextLength, vocabularySize } = model.config;
  if (!Array.isArray(prompts) || prompts.length === 0)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected an array of prompts, got ${describe(prompts)}`);
  const copies = new Map<string, number>();
  return prompts.map((prompt: ArrayLike<number>, index) => {
    checkTokens(op, nameOf(index), prompt, vocabularySize);
    if (prompt.length === 0)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected ${nameOf(index)} to have at least one token, got none`);
    if (!slide && prompt.length > contextLength) {
      const advice = slide === null ? "" : '; overflow: "slide" drops the start';
      throw new HeedError(
        "ERR_RANGE",
        `${op}: expected ${nameOf(index)} to fit into the context of ${contextLength} tokens, got ${prompt.length}${advice}`,
      );
    }
    const whole = Array.from(prompt);
    const tokens = whole.slice(-contextLength);
    // Draws go by position in the sequence, the same alone and beside others; copies of one prompt draw differently.
    // Prompts that differ before the tokens that fit are no copies.
    const key = whole.join();
    const copy = copies.get(key) ?? 0;
    copies.set(key, copy + 1);
    const room = contextLength + 1 - tokens.length;
    const limit = slide ? maxTokens : Math.min(maxTokens, room);
    const stream = streamOf(copy) + prompt.length;
    return { index, tokens, prompt: tokens.length, limit, stream, finish: null, diverged: false };
  });
}

/** Multiples of 2³²/φ: they lie about evenly among the 2³² numbers that a seed has, however many there are. */
function streamOf(copy: number): number {
  return Math.imul(copy, 0x9e3779b1);
}
