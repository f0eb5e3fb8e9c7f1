import { checkFunction } from "../check.js";
import { checkFloat, checkObject, checkShapeIs } from "../ops/check.js";
import type { FloatTensor } from "../tensor.js";

/**
 * Gets a value of a forward pass, and may return another of its shape and dtype to go on in its place. The value ends
 * with the block that it belongs to: `keep(detach(value))` holds on to it.
 */
export type Hook = (value: FloatTensor, name: string) => FloatTensor | undefined;

/**
 * Who listens to a forward pass: hooks by the names that TransformerLens has for values, such as
 * `blocks.0.attn.hook_pattern` or `decoder.1.cross_attn.hook_q`.
 */
export class Observer {
  readonly #hooks: ReadonlyMap<string, Hook>;
  /** Prefix of the names here, such as "blocks.0.attn."; "" for the whole model. */
  readonly #path: string;

  /** `path` is for `at` alone. */
  constructor(hooks: Readonly<Record<string, Hook>> | ReadonlyMap<string, Hook>, path = "") {
    checkObject("Observer", "hooks", hooks);
    this.#hooks = hooks instanceof Map ? hooks : new Map(Object.entries(hooks));
    this.#path = path;
    for (const hook of this.#hooks.values()) checkFunction("Observer", hook);
  }

  /** Who listens to a part of the model; null where nobody does. */
  at(part: string): Observer | null {
    const path = `${this.#path}${part}.`;
    const below = [...this.#hooks].filter(([name]) => name.startsWith(path));
    return below.length > 0 ? new Observer(new Map(below), path) : null;
  }

  /** Tells whether somebody listens to this value. What costs much is computed only then. */
  wants(name: string): boolean {
    return this.#hooks.has(this.#path + name);
  }

  /** Shows a value, and gives what goes on: the value or, where the hook returns one, another. */
  see(name: string, value: FloatTensor): FloatTensor {
    const full = this.#path + name;
    const given = this.#hooks.get(full)?.(value, full);
    if (given === undefined) return value;
    checkFloat(full, "what the hook returns", given, value);
    checkShapeIs(full, "what the hook returns", given, value.shape);
    return given;
  }
}
