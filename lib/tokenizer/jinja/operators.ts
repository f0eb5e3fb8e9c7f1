// Python's arithmetic, `in`, and slices.
import type { Bounds } from "./bounds.js";
import { percentFormat } from "./format.js";
import type { Arithmetic } from "./nodes.js";
import { changedText, guarded, joinTexts, shownText, TextBuilder, untrustedOf } from "./untrusted.js";
import type { Text } from "./values.js";
import {
  Dict,
  DictView,
  equal,
  Float,
  isInt,
  isList,
  isWide,
  iterate,
  Markup,
  normalInt,
  numberOf,
  Range,
  stringOf,
  TemplateError,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

/** Returns the result of an arithmetic operator. */
export function arithmetic(operator: Arithmetic, a: Value, b: Value, bounds: Bounds): Value {
  const text = stringOf(a);
  // A text is formatted with whatever is on its right, even if that does not exist.
  if (operator === "%" && text !== undefined) return guarded(remarked(percentFormat(text, b, bounds), a), [a]);
  for (const value of [a, b]) if (value instanceof Undefined) value.fail();
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined && y !== undefined)
    return isInt(a) && isInt(b)
      ? intArithmetic(operator, x, y, bounds)
      : floatArithmetic(operator, Number(x), Number(y));
  if (operator === "+") {
    const other = stringOf(b);
    if (text !== undefined && other !== undefined) {
      bounds.checkLength(text.length + other.length);
      if (typeof a === "string" && typeof b === "string") return a + b;
      bounds.spend((untrustedOf(a).length + untrustedOf(b).length) / 8);
      if (!(a instanceof Markup) && !(b instanceof Markup)) return joinTexts([a as string | Text, b as string | Text]);
      return markup(joinTexts([escapeHtml(a), escapeHtml(b)]));
    }
    const joined =
      isList(a) && isList(b) ? [a, b] : a instanceof Tuple && b instanceof Tuple ? [a.items, b.items] : null;
    if (joined) {
      const items = joined.flat(1);
      bounds.spend(items.length / 16);
      bounds.checkItems(items.length);
      return isList(a) ? items : new Tuple(items);
    }
  }
  if (operator === "*") {
    const repeated = isInt(b) ? repeat(a, Number(b), bounds) : isInt(a) ? repeat(b, Number(a), bounds) : undefined;
    if (repeated !== undefined) return repeated;
  }
  throw new TemplateError(`unsupported operand type(s) for ${operator}: '${typeName(a)}' and '${typeName(b)}'`);
}

function repeat(value: Value, given: number, bounds: Bounds): Value | undefined {
  if (!Number.isSafeInteger(given)) throw new TemplateError("cannot fit 'int' into an index-sized integer");
  const count = Math.max(0, given);
  const text = stringOf(value);
  const items = isList(value) ? value : value instanceof Tuple ? value.items : null;
  const length = (text ?? items)?.length;
  if (length === undefined) return undefined;
  if (length === 0 || count === 0) return text !== undefined ? remarked("", value) : isList(value) ? [] : new Tuple([]);
  if (text !== undefined) {
    bounds.checkLength(length * count);
    return guarded(remarked(text.repeat(count), value), [value]);
  }
  bounds.checkItems(length * count);
  bounds.spend((length * count) / 16);
  const all = Array.from({ length: count }, () => items!).flat(1);
  return isList(value) ? all : new Tuple(all);
}

/** Returns a text as Markup if the text that it was made from is. */
export function remarked(text: string | Text, from: Value): string | Text {
  return from instanceof Markup ? markup(text) : text;
}

/** Returns a text as Markup. */
export function markup(text: string | Text): Markup {
  return typeof text === "string" ? new Markup(text) : new Markup(text.text, text.untrusted);
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&#34;",
  "'": "&#39;",
};

/** Returns a text in which HTML's special characters are escaped, unless they have been. */
export function escapeHtml(value: Value): string | Text {
  return value instanceof Markup ? value : changedText(value as string | Text, escapeText);
}

export const escapeText = (text: string): string => text.replaceAll(/[&<>"']/g, (c) => entities[c]!);

function intArithmetic(operator: Arithmetic, x: number | bigint, y: number | bigint, bounds: Bounds): Value {
  if (operator === "/") return intQuotient(x, y);
  if (operator === "**") return intPower(BigInt(x), BigInt(y), bounds);
  if (typeof x === "number" && typeof y === "number") {
    const result = smallInt(operator, x, y);
    if (Number.isSafeInteger(result)) return result + 0;
  }
  const [a, b] = [BigInt(x), BigInt(y)];
  if (operator === "+") return normalInt(a + b);
  if (operator === "-") return normalInt(a - b);
  if (operator === "*") {
    bounds.checkBits(bitsOf(a) + bitsOf(b));
    return normalInt(a * b);
  }
  if (b === 0n) throw new TemplateError("integer division or modulo by zero");
  const rest = a % b;
  const mod = rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
  return normalInt(operator === "%" ? mod : (a - mod) / b);
}

/** Divides integers as Python does: the quotient is rounded once, whatever floats can say of the two. */
function intQuotient(x: number | bigint, y: number | bigint): Float {
  if (typeof x === "number" && typeof y === "number") return floatArithmetic("/", x, y);
  const [a, b] = [BigInt(x), BigInt(y)];
  if (b === 0n) throw new TemplateError("division by zero");
  const [above, below] = [a < 0n ? -a : a, b < 0n ? -b : b];
  // The whole part of the quotient times 2^shift has more bits than a float, and a last bit for what is left.
  const shift = Math.min(1100, 70 - bitsOf(above) + bitsOf(below));
  const [scaled, divisor] = shift > 0 ? [above << BigInt(shift), below] : [above, below << BigInt(-shift)];
  const whole = Number((scaled / divisor) | (scaled % divisor === 0n ? 0n : 1n));
  const half = Math.trunc(shift / 2);
  const quotient = whole * 2 ** -half * 2 ** (half - shift);
  if (!Number.isFinite(quotient)) throw new TemplateError("integer division result too large for a float");
  return new Float(a < 0n !== b < 0n ? -quotient : quotient);
}

const bitsOf = (value: bigint): number => value.toString(16).length * 4;

function smallInt(operator: Arithmetic, x: number, y: number): number {
  if (operator === "+") return x + y;
  if (operator === "-") return x - y;
  if (operator === "*") return x * y;
  if (y === 0) throw new TemplateError("integer division or modulo by zero");
  const rest = x % y;
  const mod = rest !== 0 && rest < 0 !== y < 0 ? rest + y : rest;
  // The quotient of two integers may be rounded to an integer, so it is not computed from x / y.
  return operator === "%" ? mod : (x - mod) / y;
}

function intPower(x: bigint, y: bigint, bounds: Bounds): Value {
  if (y < 0n) return floatArithmetic("**", Number(x), Number(y));
  if (x !== 0n && x !== 1n && x !== -1n) bounds.checkBits(Math.ceil(Math.log2(Math.abs(Number(x)))) * Number(y));
  return normalInt(x ** y);
}

function floatArithmetic(operator: Arithmetic, x: number, y: number): Float {
  if (operator === "+") return new Float(x + y);
  if (operator === "-") return new Float(x - y);
  if (operator === "*") return new Float(x * y);
  if (operator === "**") return floatPower(x, y);
  if (y === 0) throw new TemplateError("float division by zero");
  if (operator === "/") return new Float(x / y);
  let mod = x % y;
  if (mod !== 0 && mod < 0 !== y < 0) mod += y;
  else if (mod === 0) mod = y < 0 ? -0 : 0;
  if (operator === "%") return new Float(mod);
  const quotient = (x - mod) / y;
  const floor = Math.floor(quotient);
  return new Float(quotient - floor > 0.5 ? floor + 1 : quotient === 0 ? (x / y < 0 ? -0 : 0) : floor);
}

function floatPower(x: number, y: number): Float {
  if (x === 0 && y < 0) throw new TemplateError("0.0 cannot be raised to a negative power");
  if (x < 0 && !Number.isInteger(y) && Number.isFinite(y))
    throw new TemplateError("expected a real result of **, got a complex one");
  // In Python 1 ** nan and (-1) ** inf are 1.
  const result = x === 1 || (x === -1 && !Number.isFinite(y) && !Number.isNaN(y)) ? 1 : x ** y;
  if (!Number.isFinite(result) && Number.isFinite(x) && Number.isFinite(y))
    throw new TemplateError("expected a smaller result of **: numerical result out of range");
  return new Float(result);
}

/** Returns the value with a sign before it. */
export function signed(value: Value, negative: boolean): Value {
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === undefined)
    throw new TemplateError(`bad operand type for unary ${negative ? "-" : "+"}: '${typeName(value)}'`);
  if (value instanceof Float) return new Float(negative ? -value.value : value.value);
  if (!negative) return number;
  return number === 0 ? 0 : typeof number === "bigint" ? normalInt(-number) : -number;
}

/** Returns true if a value contains an item, as Python's `in` says. */
export function contains(container: Value, item: Value, bounds: Bounds): boolean {
  const text = stringOf(container);
  if (text !== undefined) {
    const part = stringOf(item);
    if (part === undefined)
      throw new TemplateError(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    bounds.spend((text.length + part.length) / 16);
    return text.includes(part);
  }
  if (container instanceof Dict) {
    bounds.spend((stringOf(item)?.length ?? 0) / 64);
    return container.has(item);
  }
  if (container instanceof Range) {
    const number = numberOf(item);
    const index = number === undefined ? NaN : (Number(number) - container.start) / container.step;
    return Number.isInteger(index) && index >= 0 && index < container.length;
  }
  if (
    !isList(container) &&
    !(container instanceof Tuple) &&
    !(container instanceof DictView) &&
    numberOf(container) !== undefined
  )
    // prettier-ignore
    throw new TemplateError(`argument of type '${typeName(container)}' is not iterable`);
  for (const other of iterate(container, bounds)) if (equal(other, item, bounds)) return true;
  return false;
}

/** Returns a part of a text, a list, a tuple or a range. */
export function slice(value: Value, parts: readonly Value[], bounds: Bounds): Value {
  if (value instanceof Undefined) value.fail();
  const text = stringOf(value);
  if (parts.some((part) => part !== null && !isInt(part)))
    throw new TemplateError("slice indices must be integers or None or have an __index__ method");
  const [start, stop, step = 1] = parts.map((part) => (part === null ? undefined : Number(part)));
  const items = isList(value) ? value : value instanceof Tuple ? value.items : null;
  if (text === undefined && !items && !(value instanceof Range))
    throw new TemplateError(`'${typeName(value)}' object is not subscriptable with a slice`);
  if (step === 0) throw new TemplateError("slice step cannot be zero");
  if (text !== undefined) {
    bounds.spend(text.length / 16);
    const characters = isWide(text) ? Array.from(text) : text;
    const [from, to] = indices(characters.length, start, stop, step);
    if (step === 1) {
      const begin = unitsOf(characters, from);
      const end = to <= from ? begin : begin + unitsOf(characters, to, from);
      return (value as string | Text).slice(begin, end);
    }
    return guarded(remarked(picked(characters, from, to, step).join(""), value), [value]);
  }
  if (value instanceof Range) {
    const [from, to] = indices(value.length, start, stop, step);
    return new Range(value.at(from), value.at(to), value.step * step);
  }
  bounds.spend(items!.length / 16);
  const [from, to] = indices(items!.length, start, stop, step);
  const part = step === 1 ? items!.slice(from, Math.max(from, to)) : picked(items!, from, to, step);
  return isList(value) ? part : new Tuple(part);
}

/** Returns where a slice begins and before which index it ends. */
function indices(length: number, start: number | undefined, stop: number | undefined, step: number): [number, number] {
  const [lowest, highest] = step > 0 ? [0, length] : [-1, length - 1];
  const clamp = (index: number): number => Math.min(highest, Math.max(lowest, index < 0 ? index + length : index));
  return [
    start === undefined ? (step > 0 ? lowest : highest) : clamp(start),
    stop === undefined ? (step > 0 ? highest : lowest) : clamp(stop),
  ];
}

/** Returns the number of UTF-16 units of the characters from one index to another. */
export function unitsOf(characters: string | readonly string[], to: number, from = 0): number {
  if (typeof characters === "string") return to - from;
  let units = 0;
  for (let i = from; i < to; i++) units += characters[i]!.length;
  return units;
}

function picked<T>(items: ArrayLike<T>, from: number, to: number, step: number): T[] {
  const part: T[] = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) part.push(items[i]!);
  return part;
}

/** Returns the texts of values, one after the other. */
export function concatenate(values: readonly Value[], bounds: Bounds): string | Text {
  const text = new TextBuilder();
  for (const value of values) {
    text.add(shownText(value, bounds));
    bounds.checkLength(text.length);
  }
  bounds.spend(text.parts / 8);
  return text.value;
}
