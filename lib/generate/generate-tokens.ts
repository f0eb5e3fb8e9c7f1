import type { CausalModel } from "./causal-model.js";
import { decode } from "./decode.js";
import { checkModel, checkTokenOptions, type TokenOptions } from "./options.js";
import { type FinishReason, sequencesOf } from "./sequence.js";

export interface GeneratedTokens {
  /** The tokens that follow the prompt. */
  tokens: number[];
  finish: FinishReason;
}

/**
 * Continues several prompts of token ids at once, of any lengths. Each gets the tokens it would get alone, whatever
 * else is in the batch; copies of one prompt are sampled independently.
 *
 * Rejects with ERR_ARGUMENT or ERR_RANGE for a bad prompt or option, and with the signal's reason.
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
  return sequences.map(({ tokens, prompt, finish }) => ({ tokens: tokens.slice(prompt), finish: finish! }));
}
