// Jinja2's filters of single values: `value | name`. Those of lists are in list-filters.ts.
import type { Bounds } from "./bounds.js";
import { fixed, percentFormat, roundFloat } from "./format.js";
import { listFilters } from "./list-filters.js";
import { arithmetic, escapeText, markup, remarked } from "./operators.js";
import { jsonOf, textOf } from "./repr.js";
import { fail, needInt, needText, type Operation, operations, type Runtime, tracking } from "./runtime.js";
import { capitalize, replaceText, splitLines, strip, stringMethods } from "./string-methods.js";
import { changedText, cutParts, guarded, plainText, shownText } from "./untrusted.js";
import {
  characterCount,
  Dict,
  Float,
  isInt,
  iterate,
  Markup,
  normalInt,
  numberOf,
  chargedSize,
  sizeOf,
  stringOf,
  type Text,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

type Filter = Operation<Value, Value>;
const filter = operations<Value, Value>();
const tracked = tracking(filter);

/** Returns the text of a value, and charges for it. */
function soft(runtime: Runtime, value: Value): string {
  return stringOf(softText(runtime, value))!;
}

/** Returns the text of a value with its untrusted parts, and charges for it. */
function softText(runtime: Runtime, value: Value): string | Text {
  const text = shownText(value, runtime.bounds);
  runtime.bounds.spend(stringOf(text)!.length / 8);
  return text;
}

/** Returns a filter that changes the text of a value as a whole. */
const mapping = (change: (text: string) => string): Filter =>
  tracked("", (runtime, value) => remarked(changedText(softText(runtime, value), change), value));

/** Returns a filter whose search may go through the whole text from each "<". */
const tagged = (change: (text: string) => string): Filter =>
  filter("", (runtime, value) => {
    const text = soft(runtime, value);
    runtime.bounds.spend((text.length * (text.match(/</g)?.length ?? 0)) / 32);
    return change(text);
  });

/** Puts each word in lower case with a capital; words begin behind spaces, hyphens and brackets. */
function titleText(text: string): string {
  return text
    .split(/([-\s({[<]+)/)
    .map((part) => {
      const [first = ""] = part;
      return first.toUpperCase() + part.slice(first.length).toLowerCase();
    })
    .join("");
}

/** Returns the value of a filter's argument that may be None. */
const given = (value: Value | undefined): Value | undefined => (value === null ? undefined : value);

const length = filter(
  "",
  ({ bounds }, value) => chargedSize(value, bounds) ?? fail(`object of type '${typeName(value)}' has no len()`),
);

const defaulting = tracked("default_value? boolean?", (_, value, [usual = "", boolean = false]) =>
  value instanceof Undefined || (truth(boolean) && !truth(value)) ? usual : value,
);

const escape = tracked("", (runtime, value) => (value instanceof Markup ? value : escaped(runtime, value)));

function escaped(runtime: Runtime, value: Value): Markup {
  const text = softText(runtime, value);
  const plain = stringOf(text)!;
  runtime.bounds.checkLength(plain.length + 4 * (plain.match(/[&<>"']/g)?.length ?? 0));
  return markup(changedText(text, escapeText));
}

const digits = (base: number): string => "0123456789abcdefghijklmnopqrstuvwxyz".slice(0, base);

/** Returns the integer that a text is in Python's int(); undefined if it is none. */
function parseInteger(text: string, base: number, bounds: Bounds): Value | undefined {
  bounds.spend(text.length / 8);
  let rest = strip(text, null, true, true).replace(/_(?=[\da-z])/gi, "");
  const negative = rest.startsWith("-");
  rest = rest.replace(/^[-+]/, "").toLowerCase();
  const prefix = /^0[box]/.exec(rest)?.[0];
  const prefixed = prefix === undefined ? undefined : { "0b": 2, "0o": 8, "0x": 16 }[prefix];
  const radix = base === 0 ? (prefixed ?? 10) : base;
  if (prefixed === radix) rest = rest.slice(2);
  if (rest === "" || radix < 2 || radix > 36 || Array.from(rest).some((c) => !digits(radix).includes(c)))
    return undefined;
  if (rest.length > 4300) return undefined;
  bounds.spend(rest.length ** 2 / 256);
  let value = 0n;
  for (const digit of rest) value = value * BigInt(radix) + BigInt(digits(radix).indexOf(digit));
  return normalInt(negative ? -value : value);
}

/** Returns the number that a text is in Python's float(); undefined if it is none. */
function parseFloatText(text: string): number | undefined {
  const trimmed = strip(text, null, true, true).replaceAll(/(?<=\d)_(?=\d)/g, "");
  if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(trimmed)) return Number(trimmed);
  const word = /^([-+]?)(inf|infinity|nan)$/i.exec(trimmed);
  if (!word) return undefined;
  return word[2]!.toLowerCase() === "nan" ? NaN : word[1] === "-" ? -Infinity : Infinity;
}

function floatOf(value: Value): number | undefined {
  if (value instanceof Undefined) value.fail();
  const text = stringOf(value);
  const number = text === undefined ? numberOf(value) : parseFloatText(text);
  return number === undefined ? undefined : Number(number);
}

function round({ bounds }: Runtime, value: Value, precision: number, method: string): Value {
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value) ?? fail(`type ${typeName(value)} doesn't define __round__ method`);
  if (method !== "common") {
    const power = precision < 0 ? new Float(10 ** precision) : normalInt(10n ** BigInt(Math.min(precision, 400)));
    const scaled = Number(numberOf(arithmetic("*", value, power, bounds))!);
    if (!Number.isFinite(scaled)) fail(`cannot convert float ${infinite(scaled)} to integer`);
    const whole = method === "ceil" ? Math.ceil(scaled) : Math.floor(scaled);
    return arithmetic("/", normalInt(BigInt(whole)), power, bounds);
  }
  if (value instanceof Float) return new Float(roundFloat(value.value, precision));
  if (precision >= 0) return number;
  const unit = 10n ** BigInt(Math.min(400, -precision));
  const [whole, rest] = [BigInt(number) / unit, BigInt(number) % unit];
  const twice = 2n * (rest < 0n ? -rest : rest);
  const away = twice > unit || (twice === unit && whole % 2n !== 0n);
  return normalInt((whole + (away ? (BigInt(number) < 0n ? -1n : 1n) : 0n)) * unit);
}

const infinite = (value: number): string => (Number.isNaN(value) ? "NaN" : "infinity");

function truncate(
  { bounds }: Runtime,
  text: string,
  [size, kill, end, leeway]: readonly (Value | undefined)[],
): string {
  const most = needInt(size, 255, "length");
  const ending = end === undefined ? "..." : needText(end, "end");
  const slack = needInt(given(leeway), 5, "leeway");
  if (most < characterCount(ending) || slack < 0) fail(`expected a length of at least ${characterCount(ending)}, got ${most}`); // prettier-ignore
  bounds.spend(text.length / 8);
  const characters = Array.from(text);
  if (characters.length <= most + slack) return text;
  const cut = characters.slice(0, most - characterCount(ending)).join("");
  const space = truth(kill ?? false) ? -1 : cut.lastIndexOf(" ");
  return (space < 0 ? cut : cut.slice(0, space)) + ending;
}

function indent({ bounds }: Runtime, text: string, [width, first, blank]: readonly (Value | undefined)[]): string {
  const by = stringOf(width) ?? " ".repeat(checkedWidth(bounds, needInt(width, 4, "width")));
  bounds.spend(text.length / 4);
  const [begin = "", ...others] = splitLines(`${text}\n`);
  bounds.checkLength(text.length + (others.length + 1) * by.length);
  const every = truth(blank ?? false);
  const lines = others.map((line) => (line !== "" || every ? by + line : line));
  return (truth(first ?? false) ? by : "") + [begin, ...lines].join("\n");
}

function checkedWidth(bounds: Runtime["bounds"], width: number): number {
  bounds.checkLength(width);
  return Math.max(0, width);
}

function quoteUrl(text: string, query: boolean): string {
  const encoded = encodeURIComponent(text.toWellFormed()).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`); // prettier-ignore
  return query ? encoded.replaceAll("%20", "+") : encoded.replaceAll("%2F", "/");
}

export const filters: Readonly<Record<string, Filter>> = {
  ...listFilters,
  ...{ length, count: length, default: defaulting, d: defaulting, escape, e: escape },
  abs: filter("", (_, value) => {
    if (value instanceof Undefined) value.fail();
    const number = numberOf(value) ?? fail(`bad operand type for abs(): '${typeName(value)}'`);
    if (value instanceof Float) return new Float(Math.abs(value.value));
    return number < 0 ? -(number as number) : number;
  }),
  attr: tracked("name", (runtime, value, [name]) => {
    const key = needText(name, "name");
    if (value instanceof Dict && !["copy", "get", "items", "keys", "values"].includes(key)) return runtime.undefined(`no attribute '${key}'`); // prettier-ignore
    return runtime.attribute(value, key);
  }),
  capitalize: mapping(capitalize),
  center: filter("width?", (runtime, value, [width = 80]) => {
    const method = stringMethods.center!;
    return remarked(method.apply(runtime, soft(runtime, value), [width], new Map()) as string, value);
  }),
  filesizeformat: filter("binary?", (_, value, [binary = false]) => {
    const bytes = floatOf(value) ?? fail(`could not convert ${typeName(value)} to float`);
    const base = truth(binary) ? 1024 : 1000;
    if (bytes === 1) return "1 Byte";
    if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
    const power = Math.min(8, Array.from({ length: 7 }, (_, i) => base ** (i + 2)).filter((unit) => bytes >= unit).length + 1); // prettier-ignore
    return `${fixed((base * bytes) / base ** (power + 1), 1)} ${"kMGTPEZY"[power - 1]!.replace("k", base === 1024 ? "K" : "k")}${base === 1024 ? "iB" : "B"}`;
  }),
  float: filter("default?", (_, value, [usual = new Float(0)]) => {
    const number = floatOf(value);
    return number === undefined ? usual : new Float(number);
  }),
  forceescape: tracked("", (runtime, value) => escaped(runtime, value)),
  format: tracked("*", ({ bounds }, value, args, kwargs) => {
    if (args.length > 0 && kwargs.size > 0) fail("can't handle positional and keyword arguments at the same time");
    const values = kwargs.size > 0 ? new Dict(kwargs) : new Tuple(args as Value[]);
    // Nothing in a text is trusted whose fields are not.
    return guarded(remarked(percentFormat(textOf(value, bounds), values, bounds), value), [value]);
  }),
  indent: filter("width? first? blank?", (runtime, value, args) =>
    remarked(indent(runtime, needText(value, "the value"), args), value),
  ),
  int: filter("default? base?", ({ bounds }, value, [usual = 0, base]) => {
    const text = stringOf(value);
    if (value instanceof Undefined) value.fail();
    const whole = text === undefined ? undefined : parseInteger(text, needInt(base, 10, "base"), bounds);
    if (whole !== undefined) return whole;
    if (isInt(value)) return numberOf(value)!;
    if (value instanceof Float && !Number.isFinite(value.value) && !Number.isNaN(value.value))
      fail("cannot convert float infinity to integer");
    const number = floatOf(value);
    return number === undefined || !Number.isFinite(number) ? usual : normalInt(BigInt(Math.trunc(number)));
  }),
  lower: mapping((text) => text.toLowerCase()),
  replace: tracked("old new count?", (runtime, value, [old, by, count]) => {
    const [text, from, to] = [value, old!, by!].map((part) => plainText(shownText(part, runtime.bounds)));
    return replaceText(runtime, text!, stringOf(from)!, to!, needInt(given(count), -1, "count"));
  }),
  round: filter("precision? method?", (runtime, value, [precision, method = "common"]) => {
    const name = stringOf(method);
    if (name !== "common" && name !== "ceil" && name !== "floor") fail("method must be common, ceil or floor");
    return round(runtime, value, needInt(precision, 0, "precision"), name);
  }),
  safe: tracked("", ({ bounds }, value) => markup(shownText(value, bounds))),
  string: tracked("", ({ bounds }, value) => shownText(value, bounds)),
  striptags: tagged(
    (text) =>
    text.replaceAll(/<!--[^]*?-->|<[^>]*>/g, "").split(/\s+/).filter(Boolean).join(" ") // prettier-ignore
      .replaceAll(/&(amp|lt|gt|quot|#34|#39);/g, (_, name: string) => ({ amp: "&", lt: "<", gt: ">", "#39": "'" })[name] ?? '"'), // prettier-ignore
  ),
  title: mapping(titleText),
  tojson: filter(
    "ensure_ascii? indent? separators? sort_keys?",
    ({ bounds }, value, [ascii, indentation, separators, sort]) => {
      // prettier-ignore
      const width = given(indentation);
      const by = width === undefined ? null : (stringOf(width) ?? " ".repeat(checkedWidth(bounds, needInt(width, 0, "indent")))); // prettier-ignore
      const pair = given(separators);
      const [between = by === null ? ", " : ",", afterKey = ": "] = pair === undefined ? [] : [...iterate(pair, bounds)].map((one) => needText(one, "a separator")); // prettier-ignore
      return jsonOf(
        value,
        { ascii: truth(ascii ?? false), indent: by, separators: [between, afterKey], sortKeys: truth(sort ?? false) },
        bounds,
      );
    },
  ),
  trim: tracked("chars?", (runtime, value, [chars]) => {
    const characters = given(chars);
    const text = softText(runtime, value);
    const rest = strip(stringOf(text)!, characters === undefined ? null : needText(characters, "chars"), true, true);
    return remarked(cutParts(text, [rest], null)[0]!, value);
  }),
  truncate: filter("length? killwords? end? leeway?", (runtime, value, args) => {
    const text = stringOf(value);
    if (text !== undefined) return remarked(truncate(runtime, text, args), value);
    // Python measures whatever has a length, and returns it if it is short.
    const size = sizeOf(value) ?? fail(`object of type '${typeName(value)}' has no len()`);
    if (size > needInt(args[0], 255, "length") + needInt(given(args[3]), 5, "leeway"))
      fail("expected a str to truncate");
    return value;
  }),
  upper: mapping((text) => text.toUpperCase()),
  urlencode: filter("", (runtime, value) => {
    const { bounds } = runtime;
    if (stringOf(value) !== undefined || sizeOf(value) === undefined) return quoteUrl(soft(runtime, value), false);
    const pairs = value instanceof Dict ? [...value.entries()] : [...iterate(value, bounds)].map((pair) => [...iterate(pair, bounds)]); // prettier-ignore
    if (pairs.some((pair) => pair.length !== 2)) fail("expected pairs to encode");
    return pairs.map((pair) => pair.map((part) => quoteUrl(textOf(part, bounds), true)).join("=")).join("&");
  }),
  wordcount: filter("", (runtime, value) => soft(runtime, value).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0),
  xmlattr: filter("autospace?", ({ bounds }, value, [space = true]) => {
    if (!(value instanceof Dict)) return fail(`expected a dict, got ${typeName(value)}`);
    const items = [...value.entries()]
      .filter(([, item]) => item !== null && !(item instanceof Undefined))
      .map(([key, item]) => {
        const name = needText(key, "a key");
        if (/[\s/>=]/.test(name)) fail(`Invalid character in attribute name: ${name}`);
        return `${escapeText(name)}="${item instanceof Markup ? item.text : escapeText(textOf(item, bounds))}"`;
      });
    return (items.length > 0 && truth(space) ? " " : "") + items.join(" ");
  }),
};
