import type { CausalModel } from "./causal-model.js";
import { decode } from "./decode.js";
import { valuesOf } from "./diverged.js";
import { checkModel, checkTokenOptions, type TokenOptions } from "./options.js";
import { type FinishReason, generated, sequencesOf } from "./sequence.js";

/** The continuation of a prompt. */
export interface GeneratedTokens {
  /** The tokens that follow the prompt, without the stop token. */
  tokens: number[];
  /** Reason why the sequence ended. */
  finishReason: FinishReason;
}

/**
 * Continues several prompts of token ids together. The prompts may differ in length. Each gets the tokens that it would
 * get alone, whatever else is in the batch; copies of one prompt are sampled independently.
 *
 * @example
 * const prompts = ["Call me", "The whale"].map((text) => tokenizer.encode(text));
 * const results = await generateTokens(gpt, prompts, { maxTokens: 8, temperature: 0.7, seed: 1 });
 * for (const { tokens } of results) console.log(tokenizer.decode(tokens));
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if a prompt or an option is invalid.
 * @throws the signal's reason if the signal aborts.
 * @throws DivergedError (ERR_DIVERGED) if the model diverges on a prompt: the logits of a token contain NaN or
 * Infinity, or all of them are -Infinity. The other prompts are continued to their end first; the error's `results` has
 * the result of every prompt.
 */
export async function generateTokens(
  model: CausalModel,
  prompts: readonly ArrayLike<number>[],
  options: TokenOptions = {},
): Promise<GeneratedTokens[]> {
  checkModel("generateTokens", model);
  const settings = checkTokenOptions("generateTokens", model, options);
  const sequences = sequencesOf("generateTokens", model, prompts, settings);
  const steps = decode(model, sequences, settings);
  while (!(await steps.next()).done);
  const outcomes = sequences.map((sequence) => ({
    value: { tokens: sequence.tokens.slice(sequence.prompt), finishReason: sequence.finish! },
    divergedAfter: sequence.diverged ? generated(sequence) : null,
  }));
  return valuesOf("generateTokens", "prompts", outcomes);
}
