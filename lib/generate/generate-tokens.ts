import type { CausalModel } from "./causal-model.js";
import { decode } from "./decode.js";
import { valuesOf } from "./diverged.js";
import { checkModel, checkTokenOptions, type TokenOptions } from "./options.js";
import { type FinishReason, generated, sequencesOf } from "./sequence.js";

export interface GeneratedTokens {
  /** The tokens that follow the prompt. */
  tokens: number[];
  finishReason: FinishReason;
}

/**
 * Continues several prompts of token ids at once, of any lengths. Each gets the tokens it would get alone, whatever
 * else is in the batch; copies of one prompt are sampled independently.
 *
 * Rejects with ERR_ARGUMENT or ERR_RANGE for a bad prompt or option, and with the signal's reason. Where the model diverges
 * on a prompt (its logits have no distribution: NaN or Infinity among them, or nothing but -Infinity), the others go on to
 * their end; then it rejects with a `DivergedError` (ERR_DIVERGED), whose `results` are those of all prompts.
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
