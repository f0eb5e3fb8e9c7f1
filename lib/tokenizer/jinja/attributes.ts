// Attributes and items of values, as in Jinja2's immutable sandbox: methods that would change a value do not exist.
import { fail, type Operation, operations, type Runtime } from "./runtime.js";
import { escapeHtml, remarked, unitsOf } from "./operators.js";
import { listMethods, stringMethods } from "./string-methods.js";
import { tracedResult } from "./traced-methods.js";
import {
  Dict,
  DictView,
  firstOf,
  Float,
  Func,
  isInt,
  isList,
  isWide,
  type Keywords,
  Markup,
  Namespace,
  PyObject,
  Range,
  stringOf,
  Text,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

const dictMethod = operations<Dict, Value>();
const dictMethods: Readonly<Record<string, Operation<Dict, Value>>> = {
  copy: dictMethod("", (_, dict) => dict),
  get: dictMethod("_key _default?", ({ bounds }, dict, [key, usual = null]) => {
    bounds.spend((stringOf(key)?.length ?? 0) / 64);
    const value = dict.get(key!);
    return value === undefined ? usual : value;
  }),
  items: dictMethod("", ({ bounds }, dict) => {
    bounds.spend(2 * dict.size);
    return new DictView(
      "dict_items",
      Array.from(dict.entries(), (entry) => new Tuple(entry)),
    );
  }),
  keys: dictMethod("", ({ bounds }, dict) => {
    bounds.spend(dict.size);
    return new DictView("dict_keys", dict.keys());
  }),
  values: dictMethod("", ({ bounds }, dict) => {
    bounds.spend(dict.size);
    return new DictView("dict_values", dict.values());
  }),
};

/** Methods that the sandbox hides, since they change a value, or that no template needs. */
const hidden: Readonly<Record<string, ReadonlySet<string>>> = {
  dict: new Set(["clear", "pop", "popitem", "setdefault", "update", "fromkeys"]),
  list: new Set(["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"]),
  str: new Set(["encode", "maketrans", "translate"]),
};

/** Returns the attribute of a value that Python's getattr() finds; undefined if there is none. */
function ownAttribute(runtime: Runtime, value: Value, name: string): Value | undefined {
  const type = value instanceof Markup ? "str" : typeName(value);
  if (hidden[type]?.has(name)) return runtime.undefined(`access to attribute '${name}' of '${type}' object is unsafe.`);
  const text = stringOf(value);
  if (text !== undefined) {
    const found = Object.hasOwn(stringMethods, name) ? stringMethods[name]! : null;
    return found ? textMethodOf(runtime, name, value as string | Text, found) : undefined;
  }
  if (value instanceof Dict) return Object.hasOwn(dictMethods, name) ? methodOf(runtime, name, value, dictMethods[name]!) : undefined; // prettier-ignore
  if (
    (isList(value) || ((value instanceof Tuple || value instanceof Range) && name !== "copy")) &&
    Object.hasOwn(listMethods, name)
  )
    return methodOf(runtime, name, value, listMethods[name]!);
  if (value instanceof Range && (name === "start" || name === "stop" || name === "step")) return value[name];
  if (isInt(value) || value instanceof Float) return numberAttribute(value, name);
  return value instanceof PyObject ? value.attribute(name) : undefined;
}

function numberAttribute(value: number | bigint | boolean | Float, name: string): Value | undefined {
  const own = value instanceof Float ? value : (Number(value) as Value);
  if (name === "real") return own;
  if (name === "imag") return value instanceof Float ? new Float(0) : 0;
  if (name === "is_integer") return new Func(name, () => !(value instanceof Float) || Number.isInteger(value.value));
  if (value instanceof Float) return undefined;
  if (name === "numerator") return own;
  if (name === "denominator") return 1;
  if (name === "bit_length") return new Func(name, () => BigInt(value).toString(2).replace(/^-?0?/, "").length);
  return undefined;
}

function methodOf<T>(runtime: Runtime, name: string, value: T, { signature, apply }: Operation<T, Value>): Func {
  return new Func(name, (args, kwargs) => apply(runtime, value, signature.bind(name, args, kwargs), kwargs));
}

/** Returns the method of a text. That of HTML gives HTML, and escapes what it is given. */
function textMethodOf(
  runtime: Runtime,
  name: string,
  value: string | Text,
  { signature, apply }: Operation<string, Value>,
): Func {
  const safe = value instanceof Markup;
  // prettier-ignore
  const escaped = (arg: Value): Value => (safe && stringOf(arg) !== undefined ? escapeHtml(arg) : arg);
  const marked = (result: Value): Value => {
    if (typeof result === "string" || result instanceof Text) return remarked(result, value);
    if (isList(result)) return result.map(marked);
    return result instanceof Tuple ? new Tuple(result.items.map(marked)) : result;
  };
  const text = stringOf(value)!;
  return new Func(name, (args, kwargs) => {
    const given = new Map([...kwargs].map(([key, arg]) => [key, escaped(arg)]));
    const bound = signature.bind(name, args.map(escaped), given);
    const result = tracedResult(runtime, { name, text: value, args: bound }, apply(runtime, text, bound, given));
    return safe ? marked(result) : result;
  });
}

/** Returns the item of a value; undefined if there is none. */
function ownItem(value: Value, key: Value): Value | undefined {
  if (value instanceof Dict) {
    try {
      return value.get(key);
    } catch {
      return undefined; // A key that is no key, such as a list.
    }
  }
  if (!isInt(key)) return undefined;
  const at = (length: number): number => (Number(key) < 0 ? Number(key) + length : Number(key));
  const text = stringOf(value);
  if (text !== undefined) {
    const characters = isWide(text) ? Array.from(text) : text;
    const index = at(characters.length);
    const character = characters[index];
    if (character === undefined || !(value instanceof Text)) return character;
    const from = unitsOf(characters, index);
    return value.slice(from, from + character.length);
  }
  if (isList(value)) return value[at(value.length)];
  if (value instanceof Tuple) return value.items[at(value.items.length)];
  if (!(value instanceof Range)) return undefined;
  const index = at(value.length);
  return index >= 0 && index < value.length ? value.at(index) : undefined;
}

/** Returns value.name: an attribute, or else an item. */
export function attributeOf(runtime: Runtime, value: Value, name: string): Value {
  if (value instanceof Undefined) return value.fail();
  runtime.bounds.spend(name.length / 64);
  return firstOf(
    () => ownAttribute(runtime, value, name),
    () => ownItem(value, name),
    () => runtime.undefined(`'${described(value)}' has no attribute '${name}'`),
  );
}

/** Returns value[key]: an item, or else an attribute. */
export function itemOf(runtime: Runtime, value: Value, key: Value): Value {
  if (value instanceof Undefined) return value.fail();
  const name = stringOf(key);
  runtime.bounds.spend(((stringOf(value)?.length ?? 0) + (name?.length ?? 0)) / 64);
  return firstOf(
    () => ownItem(value, key),
    () => (name === undefined ? undefined : ownAttribute(runtime, value, name)),
    () => runtime.undefined(`'${described(value)}' has no such attribute or item`),
  );
}

function described(value: Value): string {
  return value === null ? "None" : `${typeName(value)} object`;
}

/** Calls a function, a macro, or another value that can be called. */
export function callValue(callee: Value, args: readonly Value[], kwargs: Keywords): Value {
  if (callee instanceof Undefined) return callee.fail();
  if (callee instanceof Func) return callee.call(args, kwargs);
  return fail(`'${callee instanceof Namespace ? "Namespace" : typeName(callee)}' object is not callable`);
}
