// The functions that templates can call by their names: those of Jinja2, and the two that transformers adds.
import { strftime } from "./date.js";
import { fail, needInt, needText, type Runtime } from "./runtime.js";
import { textOf } from "./repr.js";
import { Signature } from "./signature.js";
import { Dict, Func, iterate, type Keywords, Namespace, PyObject, Range, stringOf, TemplateError, type Value } from "./values.js"; // prettier-ignore

/** A class of Python, which is a function here. */
class Class extends Func {
  override readonly type = "class";
}

/** A list through whose items a template goes round and round. */
class Cycler extends PyObject {
  readonly type = "Cycler";
  #at = 0;

  constructor(readonly items: readonly Value[]) {
    super();
    if (items.length === 0) fail("at least one item has to be provided");
  }

  override attribute(name: string): Value | undefined {
    const current = this.items[this.#at]!;
    if (name === "current") return current;
    if (name === "next")
      return new Func(name, () => {
        const item = this.items[this.#at]!;
        this.#at = (this.#at + 1) % this.items.length;
        return item;
      });
    if (name !== "reset") return undefined;
    return new Func(name, () => {
      this.#at = 0;
      return null;
    });
  }
}

/** Returns the dictionary that dict() makes of its arguments. */
function dictOf({ bounds }: Runtime, args: readonly Value[], kwargs: Keywords): Dict {
  if (args.length > 1) fail(`dict expected at most 1 argument, got ${args.length}`);
  const dict = new Dict();
  const [given] = args;
  if (given instanceof Dict) for (const [key, value] of given.entries()) dict.set(key, value);
  else if (given !== undefined)
    for (const pair of iterate(given, bounds)) {
      const [key, value, ...others] = [...iterate(pair, bounds)];
      if (value === undefined || others.length > 0)
        fail("dictionary update sequence element has a length other than 2");
      dict.set(key!, value);
    }
  for (const [key, value] of kwargs) dict.set(key, value);
  bounds.spend(dict.size);
  return dict;
}

const joinerParameters = new Signature("sep?");
const rangeParameters = new Signature("_start _stop? _step?");

function rangeOf({ bounds }: Runtime, args: readonly Value[], kwargs: Keywords): Range {
  const [first, second, third] = rangeParameters.bind("range", args, kwargs);
  const [start, stop] = second === undefined ? [0, needInt(first, 0, "stop")] : [needInt(first, 0, "start"), needInt(second, 0, "stop")]; // prettier-ignore
  const step = needInt(third, 1, "step");
  if (step === 0) fail("range() arg 3 must not be zero");
  const range = new Range(start, stop, step);
  bounds.checkRange(range.length);
  return range;
}

export function globalsOf(runtime: Runtime): Map<string, Value> {
  const { bounds } = runtime;
  const functions: Record<string, Func["call"]> = {
    range: (args, kwargs) => rangeOf(runtime, args, kwargs),
    dict: (args, kwargs) => dictOf(runtime, args, kwargs),
    namespace: (args, kwargs) => {
      const entries = dictOf(runtime, args, kwargs).entries();
      return new Namespace(new Map([...entries].map(([key, value]) => [needText(key, "a name"), value])));
    },
    cycler: (args) => new Cycler(args),
    joiner: (args, kwargs) => {
      const [separator = ", "] = joinerParameters.bind("joiner", args, kwargs);
      let used = false;
      return new Func("joiner", () => {
        const text = used ? separator : "";
        used = true;
        return text;
      });
    },
    raise_exception: ([message = null]) => {
      throw new TemplateError(stringOf(message) ?? textOf(message, bounds));
    },
    strftime_now: ([format = null]) => {
      const text = needText(format, "the format");
      bounds.spend(20 + text.length);
      return strftime(new Date(), text);
    },
  };
  return new Map(
    Object.entries(functions).map(([name, call]) => [
      name,
      /^(range|dict|namespace|cycler|joiner)$/.test(name) ? new Class(name, call) : new Func(name, call),
    ]),
  );
}
