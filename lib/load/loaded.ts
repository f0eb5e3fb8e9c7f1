// Base of the classes that `load` returns.
import { HeedError } from "../util/errors.js";
import type { Module } from "../nn/module.js";

/**
 * A model with everything that is needed to use it. Dispose it, or declare it with `using`, to free the model's memory.
 */
export abstract class Loaded<M extends Module> implements Disposable {
  constructor(
    /** The model itself, for everything that the methods do not offer. */
    readonly model: M,
  ) {}

  /** Frees the memory of the model. */
  dispose(): void {
    const device = this.model.parameters()[0]?.device;
    this.model.dispose();
    // The allocator would keep the memory, and hardly anything else needs pieces of this size.
    device?.emptyCache().catch(() => undefined);
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Returns the options that are not undefined, so that an undefined option does not replace a default. */
export function definedOptions<T extends object>(options: { [K in keyof T]: T[K] | undefined }): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/**
 * Returns the tokenizer.
 *
 * @throws ERR_ARGUMENT if it is null.
 */
export function needed<T>(tokenizer: T | null): T {
  if (tokenizer !== null) return tokenizer;
  throw new HeedError(
    "ERR_ARGUMENT",
    "load: expected a model with a tokenizer, got one without; pass a tokenizer in the options of load()",
  );
}

/**
 * Rejects a method that belongs to another kind of model.
 *
 * Each class has the methods of the other kinds as properties of type never. If no kind was passed to `load`, the type
 * of the result therefore has every method; if a kind was passed, it has only those of that kind.
 *
 * @throws ERR_ARGUMENT always.
 */
export function ofOtherKind(method: string, wanted: string, kind: string): never {
  throw new HeedError("ERR_ARGUMENT", `${method}: expected a model of kind "${wanted}", got one of kind "${kind}"`);
}
