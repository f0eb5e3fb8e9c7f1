// Turns JavaScript's values into those of a template, and back.
import { HeedError } from "../../util/errors.js";
import { distrusted, hasUntrusted } from "./untrusted.js";
import {
  Dict,
  DictView,
  Float,
  Func,
  isList,
  itemsOf,
  Iter,
  normalInt,
  PyObject,
  Range,
  stringOf,
  Tuple,
  Undefined,
  type Value,
} from "./values.js";

/** Whole number that is a float in Python, as 3.0 is: JavaScript has no such numbers beside integers. */
export class PythonFloat extends Number {}

/** A value whose texts are untrusted, such as what a user has written. */
export class Untrusted {
  constructor(readonly value: unknown) {}
}

/** Maximum depth of the values that a caller gives. */
const maxDepth = 1000;

/**
 * Returns a value of JavaScript as a template sees it. An integral number is an int unless it is a `PythonFloat`, since
 * JavaScript does not tell 3.0 from 3; numbers of 1e21 and beyond, which JavaScript writes with an exponent, are floats.
 *
 * @throws ERR_RANGE if the value is nested too deeply.
 */
export function fromJavaScript(value: unknown, depth = 0, untrusted = false): Value {
  if (depth > maxDepth) throw new HeedError("ERR_RANGE", `expected values nested at most ${maxDepth} deep`);
  switch (typeof value) {
    case "string":
      return untrusted ? distrusted(value) : value;
    case "boolean":
      return value;
    case "number":
      if (!Number.isInteger(value) || Math.abs(value) >= 1e21) return new Float(value);
      return Number.isSafeInteger(value) ? value + 0 : BigInt(value);
    case "bigint":
      return normalInt(value);
    case "function":
      return new Func(value.name, (args, kwargs) => {
        const given: unknown[] = args.map(toJavaScript);
        if (kwargs.size > 0)
          given.push(Object.fromEntries([...kwargs].map(([name, arg]) => [name, toJavaScript(arg)])));
        const spoilt = untrusted || [...args, ...kwargs.values()].some(hasUntrusted);
        return fromJavaScript((value as (...args: unknown[]) => unknown)(...given), 0, spoilt);
      });
    case "symbol":
    case "undefined":
      return null;
    case "object":
  }
  if (value === null) return null;
  if (value instanceof PyObject) return value;
  if (value instanceof Untrusted) return fromJavaScript(value.value, depth, true);
  if (Array.isArray(value)) return value.map((item) => fromJavaScript(item, depth + 1, untrusted));
  if (value instanceof Date) return value.toJSON();
  if (value instanceof PythonFloat) return new Float(value.valueOf());
  const entries = value instanceof Map ? [...(value as Map<unknown, unknown>)] : Object.entries(value);
  const dict = new Dict();
  for (const [key, item] of entries)
    if (item !== undefined)
      dict.set(fromJavaScript(key, depth + 1, untrusted), fromJavaScript(item, depth + 1, untrusted));
  return dict;
}

/**
 * Returns a value of a template in JavaScript: arrays for lists and tuples, objects for dictionaries, and a `PythonFloat`
 * for a float that is whole.
 */
export function toJavaScript(value: Value): unknown {
  if (value instanceof Undefined) return undefined;
  const text = stringOf(value);
  if (text !== undefined) return text;
  if (value instanceof Float) return Number.isInteger(value.value) ? new PythonFloat(value.value) : value.value;
  if (
    isList(value) ||
    value instanceof Tuple ||
    value instanceof DictView ||
    value instanceof Range ||
    value instanceof Iter
  )
    return Array.from(itemsOf(value), toJavaScript);
  if (value instanceof Dict)
    return Object.fromEntries([...value.entries()].map((entry) => entry.map(toJavaScript) as [string, unknown]));
  return value;
}
