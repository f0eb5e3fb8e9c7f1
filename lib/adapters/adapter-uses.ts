// Which adapters of a model requests use, so that an adapter can be removed when the last of them has ended.
import { describe, HeedError } from "../util/errors.js";
import type { Module } from "../nn/module.js";
import { adapterNames, checkName, detachAdapter, removeAdapter } from "./adapters.js";

/** Number of requests that use an adapter, and functions to call when the last of them has ended. */
interface Use {
  count: number;
  readonly waiting: (() => void)[];
}

/** The requests of all engines of a model by the adapters that they use. */
class Uses {
  readonly of = new Map<string, Use>();
  /** Names of adapters that are being unloaded. */
  readonly leaving = new Set<string>();
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
  const uses = usesIn(model);
  const use = uses.of.get(name) ?? { count: 0, waiting: [] };
  uses.of.set(name, use);
  use.count++;
  return () => {
    if (--use.count > 0) return;
    // Another adapter may have the name by now.
    if (uses.of.get(name) === use) uses.of.delete(name);
    for (const resolve of use.waiting) resolve();
  };
}

/**
 * @internal Takes an adapter out of a model, so that another one can have its name at once. The requests that use it go
 * on with it, and its memory is freed when the last of them has ended.
 *
 * @throws ERR_BUSY if it is being unloaded.
 */
export function retireAdapter(op: string, model: Module, name: string): void {
  const { of, leaving } = usesIn(model);
  if (leaving.has(name)) throw isLeaving(op, name);
  const dispose = detachAdapter(model, name);
  const use = of.get(name);
  of.delete(name);
  if (use) use.waiting.push(dispose);
  else dispose();
}

function isLeaving(op: string, name: string): HeedError {
  return new HeedError("ERR_BUSY", `${op}: expected an adapter that stays, got ${name}, which is being unloaded`);
}

/**
 * Removes an adapter from a model that an `Engine` serves, and frees its memory, when no request uses it any more. New
 * requests that name it are refused at once. To put another one in its place without refusing any, use `loadAdapter` with
 * `replace: true`.
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
  const { of, leaving } = usesIn(model);
  if (leaving.has(name)) throw isLeaving("unloadAdapter", name);
  leaving.add(name);
  try {
    for (let use = of.get(name); use; use = of.get(name)) {
      const { waiting } = use;
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
      });
    }
    // It may have been removed meanwhile.
    if (adapterNames(model).includes(name)) removeAdapter(model, name);
  } finally {
    leaving.delete(name);
  }
}
