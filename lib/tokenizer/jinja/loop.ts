// The variable `loop` of a loop. Items are read when they are needed, as in Python, so that a filter of the loop sees
// what its body has set.
import type { Bounds } from "./bounds.js";
import type { Runtime } from "./runtime.js";
import { equal, firstOf, Func, type Keywords, chargedSize, TemplateError, type Value } from "./values.js";

export class Loop extends Func {
  override readonly type = "LoopContext";
  readonly #items: Iterator<Value>;
  readonly #ahead: Value[] = [];
  readonly #history: [before: Value | undefined, current: Value | undefined] = [undefined, undefined];
  readonly #runtime: Runtime;
  #length: number | undefined;
  #changed: readonly Value[] | undefined;
  index0 = -1;

  /** `iterable` gives the number of items if it has one. `recurse` runs the loop's body for other items. */
  constructor(
    items: Iterator<Value>,
    iterable: Value,
    readonly depth0: number,
    runtime: Runtime,
    recurse: ((items: Value, depth: number) => Value) | null,
  ) {
    super("loop", ([given], kwargs: Keywords) => {
      if (!recurse) throw new TemplateError("The loop must have the 'recursive' marker to be called recursively.");
      const value = given === undefined ? kwargs.get("iterable") : given;
      if (value === undefined) throw new TemplateError("loop() missing the argument 'iterable'");
      return recurse(value, depth0 + 1);
    });
    this.#items = items;
    this.#runtime = runtime;
    this.#length = chargedSize(iterable, runtime.bounds);
  }

  /** Goes to the next item; undefined if there is none. */
  next(): Value | undefined {
    const item = this.#peek();
    if (item === undefined) return undefined;
    this.#ahead.shift();
    this.index0++;
    this.#history[0] = this.#history[1];
    this.#history[1] = item;
    return item;
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case "index":
        return this.index0 + 1;
      case "index0":
      case "depth0":
        return this[name];
      case "depth":
        return this.depth0 + 1;
      case "first":
        return this.index0 === 0;
      case "last":
        return this.#peek() === undefined;
      case "length":
        return this.#count();
      case "revindex":
        return this.#count() - this.index0;
      case "revindex0":
        return this.#count() - this.index0 - 1;
      case "previtem":
        return firstOf(
          () => this.#history[0],
          () => this.#runtime.undefined("there is no previous item"),
        );
      case "nextitem":
        return firstOf(
          () => this.#peek(),
          () => this.#runtime.undefined("there is no next item"),
        );
      case "cycle":
        return new Func(name, (args) => {
          if (args.length === 0) throw new TemplateError("no items for cycling given");
          return args[this.index0 % args.length]!;
        });
      case "changed":
        return new Func(name, (args) => {
          const changed = !this.#changed || !equal(args, this.#changed, this.#bounds);
          this.#changed = args;
          return changed;
        });
      default:
        return undefined;
    }
  }

  get #bounds(): Bounds {
    return this.#runtime.bounds;
  }

  #peek(): Value | undefined {
    if (this.#ahead.length === 0) {
      const next = this.#items.next();
      if (next.done) return undefined;
      this.#ahead.push(next.value);
    }
    return this.#ahead[0];
  }

  #count(): number {
    if (this.#length !== undefined) return this.#length;
    for (let item = this.#items.next(); !item.done; item = this.#items.next()) this.#ahead.push(item.value);
    this.#length = this.index0 + 1 + this.#ahead.length;
    return this.#length;
  }
}
