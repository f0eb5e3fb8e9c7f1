// The methods of Python's texts.
import { braceFormat } from "./format.js";
import { isSpace } from "./lexer.js";
import { fail, needInt, needText, type Operation, operations, type Runtime } from "./runtime.js";
import { cutParts, joinTexts, TextBuilder } from "./untrusted.js";
import type { Text } from "./values.js";
import { characterCount, Dict, isList, iterate, stringOf, isWide, Tuple, type Value } from "./values.js";

type Method = Operation<string, Value>;
const method = operations<string, Value>();

/** Removes characters from the sides of a text: white space if `characters` is null. */
export function strip(text: string, characters: string | null, start: boolean, end: boolean): string {
  const set = characters === null ? null : new Set<string>(characters);
  if (set && (isWide(text) || isWide(characters!))) {
    const given = Array.from(text);
    let [from, to] = [0, given.length];
    while (start && from < to && set.has(given[from]!)) from++;
    while (end && to > from && set.has(given[to - 1]!)) to--;
    return given.slice(from, to).join("");
  }
  const taken = (c: string): boolean => (set ? set.has(c) : isSpace(c));
  let [from, to] = [0, text.length];
  while (start && from < to && taken(text[from]!)) from++;
  while (end && to > from && taken(text[to - 1]!)) to--;
  return text.slice(from, to);
}

const stripping = (start: boolean, end: boolean): Method =>
  method("_chars?", ({ bounds }, text, [chars]) => {
    bounds.spend(text.length / 4);
    return strip(text, chars === undefined || chars === null ? null : needText(chars, "chars"), start, end);
  });

/** Returns a method that changes a text as a whole. */
const mapping = (change: (text: string) => string): Method =>
  method("", ({ bounds }, text) => {
    bounds.spend(text.length / 8);
    return change(text);
  });

/** Returns a method that says if a text is not empty and all of it matches a pattern. */
const matching = (pattern: RegExp): Method =>
  method("", ({ bounds }, text) => {
    bounds.spend(text.length / 8);
    return pattern.test(text);
  });

/** The characters whose capital at the beginning of a word is a character of its own. */
const titleCases = Object.fromEntries(
  ["\u01c4\u01c5\u01c6", "\u01c7\u01c8\u01c9", "\u01ca\u01cb\u01cc", "\u01f1\u01f2\u01f3"].flatMap((all) =>
    Array.from(all, (character) => [character, all[1]!]),
  ),
) as Readonly<Record<string, string>>;
const titleCase = (character: string): string => {
  // The small letters of Georgian have capitals, but no word begins with one.
  if (/[\u10d0-\u10ff]/.test(character)) return character;
  if (character === "\u0149") return "\u02bcN";
  const changed: string = titleCases[character] ?? character.toUpperCase();
  const [first = "", ...rest] = changed;
  return first + rest.join("").toLowerCase();
};

export function capitalize(text: string): string {
  const [first = ""] = text;
  return titleCase(first) + text.slice(first.length).toLowerCase();
}

const cased = /[\p{Lowercase}\p{Uppercase}\p{Lt}]/u;
const [upper, lower] = [/\p{Uppercase}/u, /\p{Lowercase}/u];
export const isUpper = (text: string): boolean => upper.test(text) && !/[\p{Lowercase}\p{Lt}]/u.test(text);
export const isLower = (text: string): boolean => lower.test(text) && !/[\p{Uppercase}\p{Lt}]/u.test(text);

function title(text: string): string {
  return text.replaceAll(/[\p{Lowercase}\p{Uppercase}\p{Lt}]+/gu, capitalize);
}

/** The ends of lines in str.splitlines(). */
const lineEnd = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g; // eslint-disable-line no-control-regex

export function splitLines(text: string, keepEnds = false): string[] {
  const lines: string[] = [];
  let from = 0;
  for (const { index, 0: end } of text.matchAll(lineEnd)) {
    lines.push(text.slice(from, index + (keepEnds ? end.length : 0)));
    from = index + end.length;
  }
  if (from < text.length) lines.push(text.slice(from));
  return lines;
}

/** Splits a text at white space, or at a separator; `most` is the number of cuts. */
function split(text: string, separator: string | null, most: number, fromRight: boolean): string[] {
  const cuts = most < 0 ? Infinity : most;
  const mirrored = (value: string): string => value.split("").reverse().join("");
  if (fromRight && cuts !== Infinity) {
    const parts = split(mirrored(text), separator === null ? null : mirrored(separator), most, false);
    return parts.map(mirrored).reverse();
  }
  const parts: string[] = [];
  let from = 0;
  if (separator !== null) {
    for (let at; parts.length < cuts && (at = text.indexOf(separator, from)) >= 0; from = at + separator.length)
      parts.push(text.slice(from, at));
    return [...parts, text.slice(from)];
  }
  for (;;) {
    while (from < text.length && isSpace(text[from]!)) from++;
    if (from === text.length) return parts;
    if (parts.length >= cuts) return [...parts, strip(text.slice(from), null, false, true)];
    let to = from;
    while (to < text.length && !isSpace(text[to]!)) to++;
    parts.push(text.slice(from, to));
    from = to;
  }
}

const splitting = (fromRight: boolean): Method =>
  method("sep? maxsplit?", ({ bounds }, text, [sep, most]) => {
    const separator = sep === undefined || sep === null ? null : needText(sep, "sep");
    if (separator === "") fail("empty separator");
    bounds.spend(text.length / 4 + 1);
    const parts = split(text, separator, needInt(most, -1, "maxsplit"), fromRight);
    bounds.spend(parts.length);
    return parts;
  });

const partition = (fromRight: boolean): Method =>
  method("_sep", ({ bounds }, text, [sep]) => {
    const separator = needText(sep, "sep");
    if (separator === "") fail("empty separator");
    bounds.spend(text.length / 4);
    const at = fromRight ? text.lastIndexOf(separator) : text.indexOf(separator);
    if (at < 0) return new Tuple(fromRight ? ["", "", text] : [text, "", ""]);
    return new Tuple([text.slice(0, at), separator, text.slice(at + separator.length)]);
  });

/** Returns the number of times that a text contains another one. */
function occurrences(text: string, sought: string): number {
  if (sought === "") return characterCount(text) + 1;
  let count = 0;
  for (let at = text.indexOf(sought); at >= 0; at = text.indexOf(sought, at + sought.length)) count++;
  return count;
}

/** Returns a text with up to `most` occurrences of another one replaced. */
export function replaceText(
  { bounds }: Runtime,
  text: string | Text,
  old: string,
  by: string | Text,
  most: number,
): string | Text {
  const [given, inserted] = [stringOf(text)!, stringOf(by)!];
  const count = Math.min(occurrences(given, old), most < 0 ? Infinity : most);
  bounds.spend(given.length / 4 + count);
  bounds.checkLength(given.length + count * Math.max(0, inserted.length - old.length));
  const plain = typeof text === "string" && typeof by === "string";
  if (plain && most < 0 && old !== "") return given.split(old).join(inserted);
  // Between all characters lies the empty text, as well as before the first and behind the last.
  const parts = old === "" ? charactersIn(given, count) : split(given, old, count, false);
  if (plain) return parts.join(inserted);
  return joinTexts(cutParts(text, parts, old.length).flatMap((part, i) => (i === 0 ? [part] : [by, part])));
}

/** Returns the parts of a text that `count` cuts make, the first of which is at its beginning. */
function charactersIn(text: string, count: number): string[] {
  const characters = Array.from(text);
  if (count > characters.length) return ["", ...characters, ""];
  return count === 0 ? [text] : ["", ...characters.slice(0, count - 1), characters.slice(count - 1).join("")];
}

/** Returns the part of a text that the arguments `start` and `end` of a method choose, and where it begins. */
function part(text: string, start: Value | undefined, end: Value | undefined): { part: string; from: number } | null {
  if ((start ?? null) === null && (end ?? null) === null) return { part: text, from: 0 };
  const characters = isWide(text) ? Array.from(text) : text;
  const { length } = characters;
  const index = (value: Value | undefined, usual: number): number => {
    const given = needInt(value ?? undefined, usual, "an index");
    return given < 0 ? Math.max(0, given + length) : given;
  };
  const [from, to] = [index(start, 0), Math.min(length, index(end, length))];
  if (from > to) return null;
  const chosen = characters.slice(from, to);
  return { part: typeof chosen === "string" ? chosen : chosen.join(""), from };
}

/** Returns where a text contains another one, in characters; -1 if it does not. */
const finding = (fromRight: boolean, needed: boolean): Method =>
  method("_sub _start? _end?", ({ bounds }, text, [sub, start, end]) => {
    const sought = needText(sub, "sub");
    bounds.spend((text.length + sought.length) / 8);
    const within = part(text, start, end);
    const at = within ? (fromRight ? within.part.lastIndexOf(sought) : within.part.indexOf(sought)) : -1;
    if (at < 0 && needed) fail("substring not found");
    return at < 0 ? -1 : within!.from + characterCount(within!.part.slice(0, at));
  });

const affix = (fits: (text: string, affix: string) => boolean): Method =>
  method("_prefix _start? _end?", ({ bounds }, text, [given, start, end]) => {
    const affixes = given instanceof Tuple ? given.items : [given];
    bounds.spend(affixes.length);
    const within = part(text, start, end);
    return affixes.some((one) => {
      const sought = needText(one, "a prefix or suffix");
      bounds.spend(sought.length / 64);
      return within !== null && fits(within.part, sought);
    });
  });

/** Pads a text to a width. */
const padding = (sides: (missing: number, width: number) => [left: number, right: number]): Method =>
  method("_width _fillchar?", ({ bounds }, text, [width, fill]) => {
    const character = fill === undefined ? " " : needText(fill, "the fill character");
    if (characterCount(character) !== 1) fail("The fill character must be exactly one character long");
    const wanted = needInt(width, 0, "the width");
    bounds.checkLength(wanted);
    const missing = wanted - characterCount(text);
    if (missing <= 0) return text;
    const [left, right] = sides(missing, wanted);
    return character.repeat(left) + text + character.repeat(right);
  });

/** Returns the text at a position that Python's str.center() pads more on the left of if both are odd. */
const centred = (missing: number, width: number): [number, number] => {
  const left = Math.floor(missing / 2) + (missing & width & 1);
  return [left, missing - left];
};

export const stringMethods: Readonly<Record<string, Method>> = {
  capitalize: mapping(capitalize),
  casefold: mapping((text) => Array.from(text, (character) => character.toUpperCase().toLowerCase()).join("")),
  center: padding(centred),
  count: method("_sub _start? _end?", ({ bounds }, text, [sub, start, end]) => {
    bounds.spend(text.length / 4);
    const within = part(text, start, end);
    return within ? occurrences(within.part, needText(sub, "sub")) : 0;
  }),
  endswith: affix((text, suffix) => text.endsWith(suffix)),
  expandtabs: method("tabsize?", ({ bounds }, text, [size]) => {
    const width = needInt(size, 8, "tabsize");
    bounds.spend(text.length / 2);
    bounds.checkLength(text.length + occurrences(text, "\t") * Math.max(0, width));
    return splitLines(text, true)
      .map((line) =>
        line.split("\t").reduce((a, b) => a + (width > 0 ? " ".repeat(width - (characterCount(a) % width)) : "") + b),
      ) // prettier-ignore
      .join("");
  }),
  find: finding(false, false),
  format: method("*", (runtime, text, args, kwargs) =>
    braceFormat(text, args as Value[], kwargs, runtime, runtime.bounds),
  ),
  format_map: method("_mapping", (runtime, text, [given]) => {
    if (!(given instanceof Dict)) return fail("format_map() expected a mapping");
    const entries = [...given.entries()].map(([key, value]) => [stringOf(key) ?? "", value] as const);
    return braceFormat(text, [], new Map(entries), runtime, runtime.bounds);
  }),
  index: finding(false, true),
  isalnum: matching(/^[\p{L}\p{N}]+$/u),
  isalpha: matching(/^\p{L}+$/u),
  isascii: matching(/^[\0-\x7f]*$/),
  isdecimal: matching(/^\p{Nd}+$/u),
  isdigit: matching(/^[\p{Nd}²³¹⁰⁴-⁹₀-₉①-⑨]+$/u),
  isidentifier: matching(/^[\p{ID_Start}_]\p{ID_Continue}*$/u),
  islower: mappingToBoolean(isLower),
  isnumeric: matching(/^\p{N}+$/u),
  isprintable: matching(/^(?: |[^\p{C}\p{Z}])*$/u),
  isspace: mappingToBoolean((text) => text !== "" && strip(text, null, true, false) === ""),
  istitle: mappingToBoolean((text) => cased.test(text) && title(text) === text),
  isupper: mappingToBoolean(isUpper),
  join: method("_iterable", ({ bounds }, text, [items]) => {
    const all = new TextBuilder();
    let first = true;
    for (const item of iterate(items!, bounds)) {
      const one = stringOf(item) ?? fail("sequence item: expected str instance");
      bounds.checkLength(all.length + one.length + text.length);
      if (!first) all.add(text);
      first = false;
      all.add(item as string | Text);
    }
    return all.value;
  }),
  ljust: padding((missing) => [0, missing]),
  lower: mapping((text) => text.toLowerCase()),
  lstrip: stripping(true, false),
  partition: partition(false),
  removeprefix: method("_prefix", (_, text, [prefix]) => {
    const given = needText(prefix, "prefix");
    return text.startsWith(given) ? text.slice(given.length) : text;
  }),
  removesuffix: method("_suffix", (_, text, [suffix]) => {
    const given = needText(suffix, "suffix");
    return given !== "" && text.endsWith(given) ? text.slice(0, -given.length) : text;
  }),
  replace: method("_old _new count?", (runtime, text, [old, by, count]) =>
    replaceText(runtime, text, needText(old, "old"), needText(by, "new"), needInt(count, -1, "count")),
  ),
  rfind: finding(true, false),
  rindex: finding(true, true),
  rjust: padding((missing) => [missing, 0]),
  rpartition: partition(true),
  rsplit: splitting(true),
  rstrip: stripping(false, true),
  split: splitting(false),
  splitlines: method("keepends?", ({ bounds }, text, [keep]) => {
    bounds.spend(text.length / 4);
    const lines = splitLines(text, needInt(keep, 0, "keepends") !== 0);
    bounds.spend(lines.length);
    return lines;
  }),
  startswith: affix((text, prefix) => text.startsWith(prefix)),
  strip: stripping(true, true),
  swapcase: mapping((text) => text.replaceAll(/\p{L}/gu, (c) => (upper.test(c) ? c.toLowerCase() : c.toUpperCase()))),
  title: mapping(title),
  upper: mapping((text) => text.toUpperCase()),
  zfill: method("_width", ({ bounds }, text, [width]) => {
    const wanted = needInt(width, 0, "the width");
    bounds.checkLength(wanted);
    const [, sign, digits] = /^([-+]?)(.*)$/s.exec(text)!;
    return sign! + "0".repeat(Math.max(0, wanted - characterCount(text))) + digits!;
  }),
};

function mappingToBoolean(test: (text: string) => boolean): Method {
  return method("", ({ bounds }, text) => {
    bounds.spend(text.length / 8);
    return test(text);
  });
}

/** The methods of lists and tuples that do not change them. */
export const listMethods: Readonly<Record<string, Operation<Value, Value>>> = {
  copy: operations<Value, Value>()("", (_, list) => list),
  count: operations<Value, Value>()("_value", (runtime, list, [value]) => {
    let count = 0;
    for (const item of iterate(list, runtime.bounds)) if (runtime.test("eq", item, [value!], new Map())) count++;
    return count;
  }),
  index: operations<Value, Value>()("_value _start? _stop?", (runtime, list, [value, start, stop]) => {
    const items = isList(list) ? list : [...iterate(list, runtime.bounds)];
    const index = (given: Value | undefined, usual: number): number => {
      const at = needInt(given, usual, "an index");
      return at < 0 ? Math.max(0, at + items.length) : at;
    };
    for (let i = index(start, 0); i < Math.min(items.length, index(stop, items.length)); i++) {
      runtime.bounds.spend(1);
      if (runtime.test("eq", items[i]!, [value!], new Map())) return i;
    }
    return fail("the value of index() is not in the list");
  }),
};
