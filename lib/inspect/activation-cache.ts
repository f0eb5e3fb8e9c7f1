import { HeedError } from "../errors.js";
import type { FloatTensor } from "../tensor.js";

/**
 * Values of a forward pass by their names, and the output of the pass. The tensors belong to the cache, which frees them
 * when it is disposed.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * using cache = runWithCache(gpt, ids, { names: /hook_pattern$/ });
 * cache.get("blocks.0.attn.hook_pattern").shape; // [1, 2, 3, 3]
 * cache.output.shape; // [1, 3, 256]
 */
export class ActivationCache<Name extends string = string> implements Disposable, Iterable<[Name, FloatTensor]> {
  readonly #values: ReadonlyMap<Name, FloatTensor>;

  /** @internal */
  constructor(
    /** Output of the pass: the logits, an encoder's states, or the residual stream where the pass stopped. */
    readonly output: FloatTensor,
    values: ReadonlyMap<Name, FloatTensor>,
  ) {
    this.#values = values;
  }

  /** Names of the values, in the order in which they were computed. */
  get names(): Name[] {
    return [...this.#values.keys()];
  }

  /** Returns true if the cache has the value. */
  has(name: Name): boolean {
    return this.#values.has(name);
  }

  /**
   * Returns a value. It still belongs to the cache.
   *
   * @throws ERR_ARGUMENT if the cache does not have it.
   */
  get(name: Name): FloatTensor {
    const value = this.#values.get(name);
    if (value) return value;
    const names = this.names.slice(0, 3).join(", ") + (this.#values.size > 3 ? ", …" : "");
    throw new HeedError("ERR_ARGUMENT", `ActivationCache: expected one of its values (${names}), got ${name}`);
  }

  /** Yields each name with its value. */
  [Symbol.iterator](): Iterator<[Name, FloatTensor]> {
    return this.#values.entries();
  }

  /** Frees the values and the output. */
  dispose(): void {
    for (const value of this.#values.values()) value.dispose();
    this.output.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
