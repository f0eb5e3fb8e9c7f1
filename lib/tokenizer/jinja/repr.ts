// The texts that Python's str(), repr() and json.dumps() make of values.
import type { Bounds } from "./bounds.js";
import {
  compare,
  Dict,
  DictView,
  Float,
  Func,
  isList,
  Iter,
  Markup,
  Namespace,
  Range,
  stringOf,
  TemplateError,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

/** Returns what Python's str() returns for a value. */
export function textOf(value: Value, bounds: Bounds): string {
  if (value instanceof Undefined) {
    value.use();
    return "";
  }
  return stringOf(value) ?? reprOf(value, bounds);
}

/** Returns what Python's repr() returns for a value. */
export function reprOf(value: Value, bounds: Bounds): string {
  const out = new Writer(bounds);
  const list = (open: string, items: Iterable<Value>, close: string, depth: number): void => {
    out.add(open);
    let first = true;
    for (const item of items) {
      if (!first) out.add(", ");
      first = false;
      visit(item, depth);
    }
    out.add(close);
  };
  const visit = (value: Value, depth: number): void => {
    bounds.checkDepth(depth);
    if (isList(value)) list("[", value, "]", depth + 1);
    else if (value instanceof Tuple) list("(", value.items, value.items.length === 1 ? ",)" : ")", depth + 1);
    else if (value instanceof DictView) list(`${value.type}([`, value.items, "])", depth + 1);
    else if (value instanceof Dict || value instanceof Namespace) {
      out.add(value instanceof Dict ? "{" : "<Namespace {");
      let first = true;
      for (const [key, item] of value instanceof Dict ? value.entries() : value.values) {
        if (!first) out.add(", ");
        first = false;
        visit(key, depth + 1);
        out.add(": ");
        visit(item, depth + 1);
      }
      out.add(value instanceof Dict ? "}" : "}>");
    } else out.add(shortRepr(value, bounds));
  };
  visit(value, 0);
  return out.text;
}

/** Returns the repr() of a value that contains no others. */
function shortRepr(value: Value, bounds: Bounds): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number" || typeof value === "bigint") return value.toString();
  if (value instanceof Float) return floatText(value.value);
  const text = stringOf(value);
  if (text !== undefined) {
    bounds.spend(text.length / 8);
    bounds.checkLength(text.length);
    return value instanceof Markup ? `Markup(${quoted(text)})` : quoted(text);
  }
  if (value instanceof Range) return `range(${value.start}, ${value.stop}${value.step === 1 ? "" : `, ${value.step}`})`;
  if (value instanceof Undefined) {
    value.use();
    return "Undefined";
  }
  if (value instanceof Func) return `<${value.type} ${value.name}>`;
  return value instanceof Iter ? `<${value.type.replace(" ", " object ")}>` : `<${typeName(value)}>`;
}

/** Returns the shortest text that stands for a float, in Python's spelling: 3.0, 1e-05, inf. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  const [, sign, digits, exponent] = /^(-?)([\d.]+)e([+-]\d+)$/.exec(value.toExponential())!;
  const power = Number(exponent);
  if (power < -4 || power >= 16)
    return `${sign}${digits}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
  const text = Object.is(value, -0) ? "-0" : String(value);
  return text.includes(".") ? text : `${text}.0`;
}

const escapes: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
/** Matches what repr() escapes: a backslash, and characters that cannot be printed. */
const unprintable = /\\|(?! )[\p{C}\p{Z}]/gu;

/** Returns a text in the quotes that repr() chooses: single ones, unless only they are in the text. */
function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const inside = text
    .replaceAll(unprintable, (character) => escapes[character] ?? pythonEscape(character.codePointAt(0)!))
    .replaceAll(quote, `\\${quote}`);
  return quote + inside + quote;
}

function pythonEscape(code: number): string {
  const [letter, width] = code < 256 ? ["x", 2] : code < 65536 ? ["u", 4] : ["U", 8];
  return `\\${letter}${code.toString(16).padStart(width, "0")}`;
}

/** Options of json.dumps(). */
export interface JsonOptions {
  readonly ascii: boolean;
  /** Text by which each level is indented; null writes one line. */
  readonly indent: string | null;
  readonly separators: readonly [between: string, afterKey: string];
  readonly sortKeys: boolean;
}

/** Returns what Python's json.dumps() returns. */
export function jsonOf(value: Value, options: JsonOptions, bounds: Bounds): string {
  const { ascii, indent, separators, sortKeys } = options;
  const out = new Writer(bounds);
  const text = (given: string): void => {
    bounds.checkLength(given.length);
    out.add(`"${given.replaceAll(ascii ? notAscii : special, jsonEscape)}"`);
  };
  const list = (open: string, close: string, items: Iterable<() => void>, depth: number): void => {
    bounds.checkDepth(depth);
    let count = 0;
    const newline = (level: number): void => {
      if (indent === null) return;
      bounds.checkLength(indent.length * level);
      out.add(`\n${indent.repeat(level)}`);
    };
    out.add(open);
    for (const item of items) {
      if (count++ > 0) out.add(separators[0]);
      newline(depth);
      item();
    }
    if (count > 0) newline(depth - 1);
    out.add(close);
  };
  const visit = (value: Value, depth: number): void => {
    const string = stringOf(value);
    if (string !== undefined) return text(string);
    if (isList(value) || value instanceof Tuple) {
      const items = isList(value) ? value : value.items;
      return list("[", "]", items.map((item) => () => visit(item, depth + 1)), depth + 1); // prettier-ignore
    }
    if (value instanceof Dict) {
      const entries = [...value.entries()];
      if (sortKeys) entries.sort(([a], [b]) => compare(a, b, bounds));
      const items = entries.map(([key, item]) => () => {
        text(stringOf(key) ?? jsonKey(key));
        out.add(separators[1]);
        visit(item, depth + 1);
      });
      return list("{", "}", items, depth + 1);
    }
    out.add(jsonScalar(value));
  };
  visit(value, 0);
  return out.text;
}

/** Matches the characters that JSON must escape, and all that are not printable ASCII. */
const [special, notAscii] = [/["\\\u0000-\u001f]/g, /["\\]|[^ -~]/g]; // eslint-disable-line no-control-regex
const shortEscapes: Readonly<Record<string, string>> = {
  ...{ '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f" },
};

function jsonEscape(character: string): string {
  return shortEscapes[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function jsonScalar(value: Value): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number" || typeof value === "bigint") return value.toString();
  if (value instanceof Float)
    return Number.isFinite(value.value)
      ? floatText(value.value)
      : Number.isNaN(value.value)
        ? "NaN"
        : `${value.value < 0 ? "-" : ""}Infinity`;
  throw new TemplateError(`Object of type ${typeName(value)} is not JSON serializable`);
}

function jsonKey(key: Value): string {
  if (key instanceof Tuple || key instanceof Undefined)
    throw new TemplateError(`keys must be str, int, float, bool or None, not ${typeName(key)}`);
  return jsonScalar(key);
}

/** A text that grows within the limits. */
class Writer {
  readonly #parts: string[] = [];
  #length = 0;

  constructor(readonly bounds: Bounds) {}

  add(text: string): void {
    this.bounds.spend(1 / 2 + text.length / 64);
    this.#length += text.length;
    this.bounds.checkLength(this.#length);
    this.#parts.push(text);
  }

  get text(): string {
    return this.#parts.join("");
  }
}
