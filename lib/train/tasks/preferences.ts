import { checkObject } from "../../util/check.js";
import type { CausalDecoder } from "../../models/causal-decoder.js";
import type { PreferencePair } from "../../data/preference-pair.js";
import { dpoLoss } from "../dpo.js";
import type { Task } from "../task.js";

/**
 * Returns the task of preferring one answer over another (DPO), in batches of pairs. The model has an active adapter; the
 * reference is the model without it.
 *
 * @param options `beta`, the strength with which the model is kept near the reference (0.1 by default)
 *
 * @example
 * const example = (text: string) => textExample(tokenizer, text, { prompt: "Hi. " });
 * const data = [[{ chosen: await example("Hello!"), rejected: await example("Go away.") }]];
 * addAdapter(gpt, { rank: 2 });
 * using trainer = new TaskTrainer({ model: gpt, task: preferences(), data, steps: 1 });
 *
 * @see Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.
 */
export function preferences(options: { beta?: number } = {}): Task<CausalDecoder, readonly PreferencePair[]> {
  checkObject("preferences", "options", options);
  return {
    loss: (model, pairs) => dpoLoss(model, pairs, options),
    targets: ({ length }) => length,
    tokens: (pairs) => pairs.reduce((sum, { chosen, rejected }) => sum + chosen.ids.length + rejected.ids.length, 0),
  };
}
