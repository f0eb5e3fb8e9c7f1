// What the classes that `load` returns have in common.
import { HeedError } from "../errors.js";
import type { Module } from "../nn/module.js";

/** A model and what is needed to use it. Dispose it, or declare it with `using`, to free the model's memory. */
export abstract class Loaded<M extends Module> implements Disposable {
  constructor(
    /** The model itself, for what the methods do not offer. */
    readonly model: M,
  ) {}

  dispose(): void {
    this.model.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Returns the options that say something: one that is undefined leaves the default as it is. */
export function definedOptions<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** Returns the tokenizer. Throws ERR_ARGUMENT where there is none. */
export function needed<T>(tokenizer: T | null): T {
  if (tokenizer !== null) return tokenizer;
  throw new HeedError(
    "ERR_ARGUMENT",
    "load: expected a model with a tokenizer, or one in the option tokenizer of load, got neither",
  );
}

/**
 * Refuses a method of models of another kind. Each class has these as properties of type never: so what `load` returns has
 * every method where no kind was asked for, and only those of its kind where one was.
 */
export function ofOtherKind(method: string, wanted: string, kind: string): never {
  throw new HeedError("ERR_ARGUMENT", `${method}: expected a model of kind "${wanted}", got one of kind "${kind}"`);
}
