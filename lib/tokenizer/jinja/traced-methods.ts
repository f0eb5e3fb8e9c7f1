// The untrusted parts of what the methods of texts return.
import { fail, needInt, needText, type Runtime } from "./runtime.js";
import { replaceText, stringMethods } from "./string-methods.js";
import { changedText, cutParts, guarded, hasUntrusted, untrustedOf } from "./untrusted.js";
import type { Text } from "./values.js";
import { isList, stringOf, Tuple, type Value } from "./values.js";

/** A call of a method, whose arguments are in the order of its parameters. */
interface Call {
  readonly name: string;
  readonly text: string | Text;
  readonly args: readonly (Value | undefined)[];
}

/** Methods that return parts of the text with nothing between them, or a separator that is their first argument. */
const dividing = new Set(["partition", "rpartition", "rsplit", "split"]);
/** Methods that return parts of the text, each of which begins with a character that does not lie between them. */
const cutting = new Set(["lstrip", "removesuffix", "rsplit", "rstrip", "split", "splitlines", "strip"]);
const casing = new Set(["capitalize", "casefold", "lower", "swapcase", "title", "upper"]);
/** Methods that keep the untrusted parts of their arguments. */
const joining = new Set(["format", "format_map", "join"]);

/** Returns the result of a method with its untrusted parts. */
export function tracedResult(runtime: Runtime, { name, text, args }: Call, result: Value): Value {
  if (stringOf(result) === undefined && !isList(result) && !(result instanceof Tuple)) return result;
  const spoilt = untrustedOf(text).length > 0;
  if (joining.has(name)) return guarded(result, [text]);
  if (!spoilt && !args.some(hasUntrusted)) return result;
  if (name === "replace") {
    const [old, by, count] = args;
    return replaceText(runtime, text, needText(old, "old"), by as string | Text, needInt(count, -1, "count"));
  }
  const [first] = args;
  if (dividing.has(name) && (first ?? null) !== null) {
    const gap = name.endsWith("partition") ? 0 : needText(first, "sep").length;
    return sameKind(result, (parts) => cutParts(text, parts, gap));
  }
  if (cutting.has(name)) return sameKind(result, (parts) => cutParts(text, parts, null));
  if (name === "removeprefix") return text.slice(stringOf(text)!.length - stringOf(result)!.length);
  if (casing.has(name))
    return changedText(text, (part) => stringMethods[name]!.apply(runtime, part, [], new Map()) as string);
  return guarded(result, [text, ...args]);
}

/** Returns a text, a list or a tuple, whichever `result` is, of other parts. */
function sameKind(result: Value, change: (parts: string[]) => Value[]): Value {
  const parts = isList(result) ? result : result instanceof Tuple ? result.items : [result];
  const texts = change(parts.map((part) => stringOf(part) ?? fail("expected a text")));
  return isList(result) ? texts : result instanceof Tuple ? new Tuple(texts) : texts[0]!;
}
