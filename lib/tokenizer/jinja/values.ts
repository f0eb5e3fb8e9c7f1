// The values of a template are Python's: what is true, equal, and how a value is written, differs from JavaScript. None
// is null; booleans and texts are JavaScript's own, except that a text with untrusted parts is a Text; an int is a number
// that is a safe integer, or a bigint beyond; a float is a Float, so that 3.0 is not 3; a list is an array, which no
// template can change. The rest are PyObjects.
import type { Bounds } from "./bounds.js";
import { type Ranges, noRanges, rangesWithin } from "./ranges.js";

/** A value of a template. */
export type Value = null | boolean | number | bigint | string | readonly Value[] | PyObject;

/** Keyword arguments of a call. */
export type Keywords = ReadonlyMap<string, Value>;

/** An error of a template, such as Python's TypeError or Jinja2's UndefinedError. */
export class TemplateError extends Error {}

/** A value that is neither a text, a list, a number, a boolean nor None. */
export abstract class PyObject {
  /** Name of the value's type in Python. */
  abstract readonly type: string;

  /** Returns an attribute of the value; undefined if it has none of that name. */
  attribute(_name: string): Value | undefined {
    return undefined;
  }
}

export class Float extends PyObject {
  readonly type = "float";
  constructor(readonly value: number) {
    super();
  }
}

/** A text that knows which of its parts are untrusted. A text without such parts is a JavaScript string. */
export class Text extends PyObject {
  readonly type: string = "str";
  constructor(
    readonly text: string,
    readonly untrusted: Ranges,
  ) {
    super();
  }

  /** Returns a part of the text, from one UTF-16 unit to another. */
  slice(from: number, to = this.text.length): string | Text {
    const [text, untrusted] = [this.text.slice(from, to), rangesWithin(this.untrusted, from, to)];
    return untrusted.length === 0 ? text : new Text(text, untrusted);
  }
}

/** A text that is marked as safe HTML: what is added to it is escaped. */
export class Markup extends Text {
  override readonly type = "Markup";
  constructor(text: string, untrusted = noRanges) {
    super(text, untrusted);
  }

  override slice(from: number, to = this.text.length): Markup {
    return new Markup(this.text.slice(from, to), rangesWithin(this.untrusted, from, to));
  }
}

export class Tuple extends PyObject {
  readonly type = "tuple";
  constructor(readonly items: readonly Value[]) {
    super();
  }
}

/** The value of a name, an item or an attribute that does not exist. */
export class Undefined extends PyObject {
  readonly type = "Undefined";
  /** `strict` says that every use but the test `defined` is an error. */
  constructor(
    readonly message: string,
    readonly strict = false,
  ) {
    super();
  }

  fail(): never {
    throw new TemplateError(this.message);
  }

  /** Fails if the value is strict. */
  use(): void {
    if (this.strict) this.fail();
  }
}

/** The result of range(). */
export class Range extends PyObject {
  readonly type = "range";
  readonly length: number;
  constructor(
    readonly start: number,
    readonly stop: number,
    readonly step: number,
  ) {
    super();
    this.length = Math.max(0, Math.ceil((stop - start) / step)) || 0;
  }

  at(index: number): number {
    return this.start + index * this.step;
  }
}

/** The keys, values or items of a dictionary. */
export class DictView extends PyObject {
  constructor(
    readonly type: string,
    readonly items: readonly Value[],
  ) {
    super();
  }
}

/** An iterator, which can be used once. */
export class Iter extends PyObject {
  constructor(
    readonly type: string,
    readonly iterator: Iterator<Value>,
  ) {
    super();
  }
}

/** A function, a method or a class. */
export class Func extends PyObject {
  readonly type: string = "function";
  constructor(
    readonly name: string,
    readonly call: (args: readonly Value[], kwargs: Keywords) => Value,
  ) {
    super();
  }
}

/** The result of namespace(), whose attributes can be set. */
export class Namespace extends PyObject {
  readonly type = "Namespace";
  constructor(readonly values: Map<string, Value>) {
    super();
  }

  override attribute(name: string): Value | undefined {
    return this.values.get(name);
  }
}

/** Key of a JavaScript Map for a value: the same for values that are equal in Python. */
type Hash = null | number | bigint | string;

/** A dictionary in the order of its insertion. */
export class Dict extends PyObject {
  readonly type = "dict";
  readonly #entries = new Map<Hash, readonly [key: Value, value: Value]>();

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    super();
    for (const [key, value] of entries) this.set(key, value);
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: Value): Value | undefined {
    return this.#entries.get(hash(key))?.[1];
  }

  has(key: Value): boolean {
    return this.#entries.has(hash(key));
  }

  /** Sets a value while the dictionary is being made. As in Python, an equal key that is there already stays. */
  set(key: Value, value: Value): void {
    const hashed = hash(key);
    this.#entries.set(hashed, [this.#entries.get(hashed)?.[0] ?? key, value]);
  }

  entries(): Iterable<readonly [Value, Value]> {
    return this.#entries.values();
  }

  keys(): Value[] {
    return Array.from(this.#entries.values(), ([key]) => key);
  }

  values(): Value[] {
    return Array.from(this.#entries.values(), ([, value]) => value);
  }
}

const objectIds = new WeakMap<object, string>();
let objects = 0;

function hash(key: Value): Hash {
  if (key === null || typeof key === "string" || typeof key === "number" || typeof key === "bigint") return key;
  if (typeof key === "boolean") return Number(key);
  if (Array.isArray(key) || key instanceof Dict || key instanceof DictView || key instanceof Namespace)
    throw new TemplateError(`unhashable type: '${typeName(key)}'`);
  if (key instanceof Float) return Number.isInteger(key.value) ? normalInt(BigInt(key.value)) : key.value;
  if (key instanceof Text) return key.text;
  // Texts with this beginning are no names of anything else.
  if (key instanceof Tuple) return `\0tuple ${key.items.map((item) => tagged(hash(item))).join(",")}`;
  if (key instanceof Undefined) {
    key.use();
    return "\0undefined";
  }
  const id = objectIds.get(key) ?? `\0object ${objects++}`;
  objectIds.set(key, id);
  return id;
}

function tagged(value: Hash): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** Returns the first value that exists. `??` does not, since None is null. */
export function firstOf<T>(...values: readonly (() => T | undefined)[]): T {
  for (const value of values) {
    const found = value();
    if (found !== undefined) return found;
  }
  throw new TypeError("expected a value that exists");
}

/** Returns the name of a value's type in Python. */
export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number" || typeof value === "bigint") return "int";
  if (typeof value === "string") return "str";
  return value instanceof PyObject ? value.type : "list";
}

/** Returns an integer as a number if that is exact. */
export function normalInt(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

export const isList = (value: Value): value is readonly Value[] => Array.isArray(value);
export const isInt = (value: Value): value is number | bigint | boolean =>
  typeof value === "number" || typeof value === "bigint" || typeof value === "boolean";

/** Returns the text that a value is; undefined for values that are no texts. */
export function stringOf(value: Value | undefined): string | undefined {
  return typeof value === "string" ? value : value instanceof Text ? value.text : undefined;
}

/** Returns the number that an int, a bool or a float is; undefined for other values. */
export function numberOf(value: Value): number | bigint | undefined {
  if (typeof value === "boolean") return Number(value);
  if (typeof value === "number" || typeof value === "bigint") return value;
  return value instanceof Float ? value.value : undefined;
}

/** Matches a text that has characters of two UTF-16 units. */
const surrogates = /[\ud800-\udfff]/;
export const isWide = (text: string): boolean => surrogates.test(text);

/** Returns the number of characters of a text: Python counts code points. */
export function characterCount(text: string): number {
  if (!isWide(text)) return text.length;
  let count = 0;
  for (const _ of text) count++;
  return count;
}

export function truth(value: Value): boolean {
  if (typeof value !== "object") return Boolean(value);
  if (value === null) return false;
  if (isList(value)) return value.length > 0;
  if (value instanceof Undefined) {
    value.use();
    return false;
  }
  return (sizeOf(value) ?? numberOf(value) ?? 1) !== 0;
}

/** Returns what Python's len() returns; undefined if a value has no length. */
export function sizeOf(value: Value): number | undefined {
  if (isList(value)) return value.length;
  const text = stringOf(value);
  if (text !== undefined) return characterCount(text);
  if (value instanceof Dict) return value.size;
  if (value instanceof Tuple || value instanceof DictView) return value.items.length;
  if (value instanceof Range) return value.length;
  if (value instanceof Undefined) {
    value.use();
    return 0;
  }
  return undefined;
}

/** Returns what Python's len() returns, and charges for the search of a text for characters of two units. */
export function chargedSize(value: Value, bounds: Bounds): number | undefined {
  bounds.spend((stringOf(value)?.length ?? 0) / 64);
  return sizeOf(value);
}

/** Iterates over a value, one step of work for each item. */
export function* iterate(value: Value, bounds: Bounds): Generator<Value> {
  for (const item of itemsOf(value)) {
    bounds.spend(1 / 2);
    yield item;
  }
}

/** Returns the items of a value without a charge. */
export function itemsOf(value: Value): Iterable<Value> {
  if (isList(value)) return value;
  if (typeof value === "string") return value;
  if (value instanceof Text) return value.untrusted.length === 0 ? value.text : charactersOf(value);
  if (value instanceof Dict) return keysOf(value);
  if (value instanceof Tuple || value instanceof DictView) return value.items;
  if (value instanceof Range) return numbersOf(value);
  if (value instanceof Iter) return { [Symbol.iterator]: () => ({ next: () => value.iterator.next() }) };
  if (value instanceof Undefined) {
    value.use();
    return [];
  }
  throw new TemplateError(`'${typeName(value)}' object is not iterable`);
}

function* charactersOf({ text, untrusted }: Text): Generator<Value> {
  let at = 0;
  for (const character of text) {
    const within = rangesWithin(untrusted, at, (at += character.length));
    yield within.length === 0 ? character : new Text(character, within);
  }
}

function* keysOf(dict: Dict): Generator<Value> {
  for (const [key] of dict.entries()) yield key;
}

function* numbersOf(range: Range): Generator<Value> {
  for (let i = 0; i < range.length; i++) yield range.at(i);
}

/** Returns true if Python's iter() accepts a value. */
export function isIterable(value: Value): boolean {
  return value instanceof Iter || stringOf(value) !== undefined || sizeOf(value) !== undefined;
}

/** Returns true if two values are equal, as Python's == says. */
export function equal(a: Value, b: Value, bounds: Bounds, depth = 0): boolean {
  if (a instanceof Undefined) a.use();
  if (b instanceof Undefined) b.use();
  // Long lists may have the same items, so these are not free.
  bounds.spend(1 / 4);
  if (a === b) return true;
  bounds.spend(1 / 4);
  const [s, t] = [stringOf(a), stringOf(b)];
  if (s !== undefined || t !== undefined) {
    if (s?.length === t?.length) bounds.spend(s!.length / 64);
    return s === t;
  }
  const [x, y] = [numberOf(a), numberOf(b)];
  // JavaScript's == compares integers with floats exactly.
  if (x !== undefined || y !== undefined) return x !== undefined && y !== undefined && x == y;
  bounds.checkDepth(depth);
  const each = (p: readonly Value[], q: readonly Value[]): boolean =>
    p.length === q.length && p.every((item, i) => equal(item, q[i]!, bounds, depth + 1));
  if (a === null || b === null) return false;
  if (isList(a)) return isList(b) && each(a, b);
  if (isList(b)) return false;
  if (a instanceof Tuple) return b instanceof Tuple && each(a.items, b.items);
  if (a instanceof Range) {
    if (!(b instanceof Range) || a.length !== b.length) return false;
    return a.length === 0 || (a.start === b.start && (a.length === 1 || a.step === b.step));
  }
  if (a instanceof Undefined) return b instanceof Undefined;
  if (a instanceof Dict && b instanceof Dict) {
    if (a.size !== b.size) return false;
    for (const [key, value] of a.entries()) {
      const other = b.get(key);
      if (other === undefined || !equal(value, other, bounds, depth + 1)) return false;
    }
    return true;
  }
  return false;
}

/** Returns a negative number, zero or a positive one as `a` lies before `b` in Python's order. */
export function compare(a: Value, b: Value, bounds: Bounds, operator = "<", depth = 0): number {
  bounds.spend(1 / 2);
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined && y !== undefined) return x < y ? -1 : x > y ? 1 : x == y ? 0 : NaN;
  const [s, t] = [stringOf(a), stringOf(b)];
  if (s !== undefined && t !== undefined) {
    bounds.spend(Math.min(s.length, t.length) / 64);
    return compareTexts(s, t);
  }
  for (const value of [a, b]) if (value instanceof Undefined) value.fail();
  const lists = isList(a) && isList(b) ? [a, b] : a instanceof Tuple && b instanceof Tuple ? [a.items, b.items] : null;
  if (!lists)
    throw new TemplateError(`'${operator}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`);
  bounds.checkDepth(depth);
  const [p, q] = lists as [readonly Value[], readonly Value[]];
  for (let i = 0; i < Math.min(p.length, q.length); i++)
    if (!equal(p[i]!, q[i]!, bounds, depth + 1)) return compare(p[i]!, q[i]!, bounds, operator, depth + 1);
  return p.length - q.length;
}

/** Compares texts by code points: JavaScript's order differs for characters of two UTF-16 units. */
export function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  if (!isWide(a) || !isWide(b)) {
    if (!isWide(a) && !isWide(b)) return a < b ? -1 : 1;
  }
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  if (i > 0 && /[\udc00-\udfff]/.test((a[i] ?? "") + (b[i] ?? ""))) i--;
  return (a.codePointAt(i) ?? -1) - (b.codePointAt(i) ?? -1);
}
