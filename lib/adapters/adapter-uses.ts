// Which adapters of a model requests use, so that an adapter can be removed when the last of them has ended.
import { describe, HeedError } from "../errors.js";
import type { Module } from "../nn/module.js";
import { adapterNames, checkName, removeAdapter } from "./adapters.js";

/** The requests of all engines of a model by the adapters that they use. */
class Uses {
  readonly counts = new Map<string, number>();
  /** Adapters that are being unloaded, with the functions to call when their last request has ended. */
  readonly leaving = new Map<string, (() => void)[]>();
}

const usesOf = new WeakMap<Module, Uses>();

function usesIn(model: Module): Uses {
  const uses = usesOf.get(model) ?? new Uses();
  usesOf.set(model, uses);
  return uses;
}

/**
 * Returns the names of the adapters that requests may use: those of the model that are not being unloaded.
 */
export function usableAdapters(model: Module): string[] {
  const leaving = usesOf.get(model)?.leaving;
  return adapterNames(model).filter((name) => !leaving?.has(name));
}

/**
 * Checks that requests may use an adapter.
 *
 * @throws ERR_ARGUMENT if the model has none of this name, or it is being unloaded; the message lists those there are.
 */
export function checkUsable(op: string, model: Module, name: unknown): asserts name is string {
  const names = usableAdapters(model);
  if (names.includes(name as string)) return;
  const list = names.length === 0 ? "which has none" : `which are ${names.join(", ")}`;
  throw new HeedError(
    "ERR_ARGUMENT",
    `${op}: expected adapter to be the name of one of the model's adapters, ${list}, or null, got ${describe(name)}`,
  );
}

/** Counts a request that uses an adapter. Returns the function to call at its end. */
export function useAdapter(model: Module, name: string): () => void {
  const { counts, leaving } = usesIn(model);
  counts.set(name, (counts.get(name) ?? 0) + 1);
  return () => {
    const rest = counts.get(name)! - 1;
    if (rest > 0) return void counts.set(name, rest);
    counts.delete(name);
    for (const resolve of leaving.get(name) ?? []) resolve();
  };
}

/**
 * Removes an adapter from a model that an `Engine` serves, and frees its memory, when no request uses it any more. New
 * requests that name it are refused at once.
 *
 * @example
 * addAdapter(gpt, { name: "polite", active: false });
 * await using engine = new Engine(gpt, { tokenizer });
 * const answer = engine.generate({ prompt: "Call me", adapter: "polite", maxTokens: 5 });
 * console.log((await answer).text);
 * await unloadAdapter(gpt, "polite");
 *
 * @throws ERR_ARGUMENT if the model has no adapter of this name.
 * @throws ERR_BUSY if it is being unloaded already.
 */
export async function unloadAdapter(model: Module, name: string): Promise<void> {
  checkName("unloadAdapter", model, name);
  const { counts, leaving } = usesIn(model);
  if (leaving.has(name))
    throw new HeedError("ERR_BUSY", `unloadAdapter: expected an adapter that stays, got ${name}, which is leaving`);
  const waiting: (() => void)[] = [];
  leaving.set(name, waiting);
  try {
    while (counts.has(name))
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
      });
    // It may have been removed meanwhile.
    if (adapterNames(model).includes(name)) removeAdapter(model, name);
  } finally {
    leaving.delete(name);
  }
}
