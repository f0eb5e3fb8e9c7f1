// Parameters of the functions, filters, tests and methods that templates call.
import { type Keywords, TemplateError, type Value } from "./values.js";

/** Arguments in the order of the parameters; undefined where the caller gives none. */
export type Bound = (Value | undefined)[];

/**
 * Parameters of a function: names with spaces between them, with "?" behind those that may be left out. A name that
 * begins with "_" can be given by its position only. "*" as the last name allows any number of further arguments.
 */
export class Signature {
  readonly #names: readonly string[];
  readonly #required: number;
  readonly #open: boolean;

  constructor(text: string) {
    const names = text.split(" ").filter(Boolean);
    this.#open = names.at(-1) === "*";
    if (this.#open) names.pop();
    this.#required = names.filter((name) => !name.endsWith("?")).length;
    this.#names = names.map((name) => name.replace("?", ""));
  }

  /**
   * Returns the arguments of a call of `name`.
   *
   * @throws TemplateError if one is missing, or there is no parameter for one.
   */
  bind(name: string, args: readonly Value[], kwargs: Keywords): Bound {
    if (this.#open) return [...args];
    const bound: Bound = [...args];
    if (bound.length > this.#names.length)
      throw new TemplateError(`${name}() takes at most ${this.#names.length} arguments, got ${bound.length}`);
    for (const [key, value] of kwargs) {
      const at = this.#names.indexOf(key);
      if (at < 0) throw new TemplateError(`${name}() got an unexpected keyword argument '${key}'`);
      if (bound[at] !== undefined) throw new TemplateError(`${name}() got multiple values for argument '${key}'`);
      bound[at] = value;
    }
    for (let i = 0; i < this.#required; i++)
      if (bound[i] === undefined) throw new TemplateError(`${name}() missing the argument '${this.#names[i]}'`);
    return bound;
  }
}
