import { checkFunction } from "../util/check.js";
import { checkFloat, checkObject, checkShapeIs } from "../ops/check.js";
import { reshape } from "../ops/views.js";
import type { FloatTensor } from "../core/tensor.js";

/**
 * Function that receives a value of a forward pass and its name. If it returns a tensor of the same shape and dtype,
 * the pass continues with that instead. The value is freed when its block ends: `keep(detach(value))` holds on to it.
 */
export type Hook = (value: FloatTensor, name: string) => FloatTensor | undefined;

/**
 * Set of hooks that listen to a forward pass, by the names that TransformerLens gives to values, such as
 * `blocks.0.attn.hook_pattern` or `decoder.1.cross_attn.hook_q`.
 *
 * @example
 * const hook: Hook = (value, name) => void console.log(name, value.shape);
 * const observer = new Observer({ "blocks.0.attn.hook_pattern": hook });
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * gpt.forward(ids, { observer }); // logs "blocks.0.attn.hook_pattern [1, 2, 3, 3]"
 *
 * @see https://transformerlensorg.github.io/TransformerLens/
 */
export class Observer {
  readonly #hooks: ReadonlyMap<string, Hook>;
  /** Prefix of the names in this part of the model, such as "blocks.0.attn."; "" for the whole model. */
  readonly #path: string;

  /** Creates an observer of a whole model. Only `at` passes a `path`. */
  constructor(hooks: Readonly<Record<string, Hook>> | ReadonlyMap<string, Hook>, path = "") {
    checkObject("Observer", "hooks", hooks);
    this.#hooks = hooks instanceof Map ? hooks : new Map(Object.entries(hooks));
    this.#path = path;
    for (const hook of this.#hooks.values()) checkFunction("Observer", hook);
  }

  /** Returns the observer of a part of the model, such as "blocks.0"; null if no hook listens there. */
  at(part: string): Observer | null {
    const path = `${this.#path}${part}.`;
    const below = [...this.#hooks].filter(([name]) => name.startsWith(path));
    return below.length > 0 ? new Observer(new Map(below), path) : null;
  }

  /** Returns true if a hook listens to this value, so that costly values are computed only when they are wanted. */
  wants(name: string): boolean {
    return this.#hooks.has(this.#path + name);
  }

  /** Returns the function that passes this value to its hook, or null if no hook listens to it. */
  listener(name: string): ((value: FloatTensor) => FloatTensor) | null {
    return this.wants(name) ? (value) => this.see(name, value) : null;
  }

  /**
   * Passes a value to its hook and returns the tensor to continue with: the hook's if it returns one, else the value.
   */
  see(name: string, value: FloatTensor): FloatTensor {
    const full = this.#path + name;
    const given = this.#hooks.get(full)?.(value, full);
    if (given === undefined || given === value) return value;
    checkFloat(full, "the hook's result", given, value);
    checkShapeIs(full, "the hook's result", given, value.shape);
    // The model frees what its parts return. A hook's tensor may be the user's own, so the pass continues with a view.
    return reshape(given, given.shape);
  }
}

/** Passes a value to the observer's hook, if there is one, and returns the tensor to continue with. */
export function see(observer: Observer | null | undefined, name: string, value: FloatTensor): FloatTensor {
  return observer ? observer.see(name, value) : value;
}
