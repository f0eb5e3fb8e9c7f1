import { checkModule } from "./module.js";
import type { Module } from "./module.js";
import { matchingNames, type NamePattern } from "./name-pattern.js";

/**
 * Freezes parameters of a model, by default all of them: training does not change them. They cost no gradient, and the
 * optimiser keeps no moments for them. They are saved and loaded like the others. Returns the names of the parameters
 * that it froze.
 *
 * @example
 * freeze(gpt, ["wte", "h.0"]); // the embedding and everything in the first block
 * freeze(gpt, "ln_*"); // all norms
 *
 * @throws ERR_ARGUMENT if a pattern matches no parameter.
 */
export function freeze(model: Module, patterns?: NamePattern | readonly NamePattern[]): string[] {
  return setTrained("freeze", model, patterns, false);
}

/**
 * Makes frozen parameters of a model trainable again, by default all of them. Returns the names of the parameters that
 * it made trainable.
 *
 * @example
 * freeze(gpt);
 * unfreeze(gpt, "h.1.mlp"); // only this feed-forward layer is trained
 *
 * @throws ERR_ARGUMENT if a pattern matches no parameter.
 */
export function unfreeze(model: Module, patterns?: NamePattern | readonly NamePattern[]): string[] {
  return setTrained("unfreeze", model, patterns, true);
}

function setTrained(
  op: string,
  model: Module,
  patterns: NamePattern | readonly NamePattern[] | undefined,
  trained: boolean,
): string[] {
  checkModule(op, model);
  const parameters = model.stateDict();
  const names = Object.keys(parameters);
  const matched = patterns === undefined ? new Set(names) : matchingNames(op, "the patterns", patterns, names);
  const changed = [...matched].filter((name) => parameters[name]!.requiresGrad !== trained);
  for (const name of changed) parameters[name]!.requiresGrad = trained;
  return changed;
}
