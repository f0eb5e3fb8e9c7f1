import { HeedError } from "../util/errors.js";
import type { FloatTensor } from "../core/tensor.js";

/** Tensors by the names of values. They belong to this object, which frees them when it is disposed. */
export class NamedTensors<Name extends string = string> implements Disposable, Iterable<[Name, FloatTensor]> {
  readonly #values: ReadonlyMap<Name, FloatTensor>;

  /** @internal */
  constructor(values: ReadonlyMap<Name, FloatTensor>) {
    this.#values = values;
  }

  /** Names of the values, in the order in which they were computed. */
  get names(): Name[] {
    return [...this.#values.keys()];
  }

  /** Returns true if there is a value of this name. */
  has(name: Name): boolean {
    return this.#values.has(name);
  }

  /**
   * Returns a value. It still belongs to this object.
   *
   * @throws ERR_ARGUMENT if there is none of this name.
   */
  get(name: Name): FloatTensor {
    const value = this.#values.get(name);
    if (value) return value;
    const names = this.names.slice(0, 3).join(", ") + (this.#values.size > 3 ? ", …" : "");
    throw new HeedError("ERR_ARGUMENT", `${this.constructor.name}: expected one of its values (${names}), got ${name}`);
  }

  /** Yields each name with its value. */
  [Symbol.iterator](): Iterator<[Name, FloatTensor]> {
    return this.#values.entries();
  }

  /** Frees the values. */
  dispose(): void {
    for (const value of this.#values.values()) value.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
