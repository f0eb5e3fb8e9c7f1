// The log-probabilities of the tokens of prompts, which requests ask for by `echo` or `prompt_logprobs`.
import type { TokenLogprobs } from "../generate/generation.js";
import { LogprobRows } from "../generate/logprob-rows.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { saltOf } from "./answers.js";
import { ApiError } from "./api-error.js";
import type { Call } from "./endpoint.js";
import { type Items, MappedArray } from "./streamed-json.js";
import { finite, shownToken } from "./logprobs.js";
import type { ServedLanguageModel } from "./served-models.js";
import type { StreamParameters, TokenParameters } from "./shared-parameters.js";

/** Tokens of a prompt with their log-probabilities. The first token has none. */
export type PromptScores = LogprobRows;

/**
 * Resolves to the log-probabilities of the tokens of prompts after the first, and of the `top` most likely tokens in the
 * place of each. What the model computes for them is kept for the answers.
 */
export function scorePrompts(
  served: ServedLanguageModel,
  call: Call,
  prompts: readonly Int32Array[],
  top: number,
  cacheSalt?: string,
): Promise<PromptScores[]> {
  const own = { adapter: served.adapter, cacheSalt: saltOf(call.tenant, cacheSalt), signal: call.signal };
  return Promise.all(
    prompts.map(async (tokens) => {
      if (tokens.length < 2) return new LogprobRows();
      const { logprobs } = await served.engine.score({ ...own, tokens, logprobs: top });
      return logprobs!;
    }),
  );
}

/** Returns the scores with at most `count` of the most likely tokens in each place. */
export function withTop(scores: PromptScores, count: number): Items<TokenLogprobs> {
  const cut = (one: TokenLogprobs): TokenLogprobs => ({ ...one, top: one.top.slice(0, count) });
  return {
    length: scores.length,
    at: (i) => {
      const one = scores.at(i);
      return one && cut(one);
    },
    *[Symbol.iterator]() {
      for (const one of scores) yield cut(one);
    },
  };
}

/** Returns the scores of a prompt as vLLM's `prompt_logprobs`: null for the first token, then the tokens by their ids. */
export function promptLogprobs(tokenizer: Tokenizer, scores: Items<TokenLogprobs>): object {
  const first: Items<TokenLogprobs | null> = {
    length: scores.length + 1,
    at: (i) => (i === 0 ? null : scores.at(i - 1)),
    *[Symbol.iterator]() {
      yield null;
      yield* scores;
    },
  };
  return new MappedArray(first, (one) => {
    if (!one) return null;
    const ranked = one.top.map(({ token, logprob }, i) => [token, { logprob, rank: i + 1 }] as const);
    const known = new Map<number, { logprob: number; rank: number | null }>(ranked);
    // A token that is none of the likeliest comes last. Its rank is not known.
    if (!known.has(one.token)) known.set(one.token, { logprob: one.logprob, rank: null });
    return Object.fromEntries(
      [...known].map(([token, { logprob, rank }]) => [
        token,
        { logprob: finite(logprob), rank, decoded_token: shownToken(tokenizer, token).text },
      ]),
    );
  });
}

/** Checks that the scores of the prompt are not asked for in a stream, whose events have no place for them. */
export function checkPromptLogprobs({ stream, prompt_logprobs: top }: StreamParameters & TokenParameters): void {
  if (!stream || typeof top !== "number") return;
  throw new ApiError(400, "prompt_logprobs: expected stream to be false, got true.", {
    ...{ param: "prompt_logprobs", code: "invalid_value" },
  });
}
