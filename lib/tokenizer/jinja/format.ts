// Python's formatting of values: text % values, text.format(), and the rounding of floats.
import type { Bounds } from "./bounds.js";
import { floatText, reprOf, textOf } from "./repr.js";
import { distrusted, hasUntrusted, shownText, TextBuilder } from "./untrusted.js";
import {
  characterCount,
  Dict,
  Float,
  isInt,
  isList,
  type Keywords,
  numberOf,
  Range,
  stringOf,
  TemplateError,
  type Text,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

/** Longest text of a number that is formatted. */
const maxDigits = 100;

/** Returns a text in which the fields %s, %d and others are replaced by values. */
export function percentFormat(text: string, given: Value, bounds: Bounds): string | Text {
  const values = given instanceof Tuple ? given.items : [given];
  let used = 0;
  let length = text.length;
  const next = (): Value => {
    if (used >= values.length) throw new TemplateError("not enough arguments for format string");
    return values[used++]!;
  };
  const size = (star: string | undefined): number | undefined => {
    if (star === undefined || star === "") return undefined;
    const value = star === "*" ? next() : Number(star);
    if (typeof value !== "number") throw new TemplateError("* wants int");
    return value;
  };
  bounds.spend(text.length / 8);
  const result = replaceFields(
    text,
    /%(?:\(([^()]*)\))?([-#0 +]*)(\*|\d+)?(?:\.(\*|\d+)?)?[hlL]?([^]?)/g,
    (whole: string, ...groups: (string | undefined)[]) => {
      const [name, flags = "", star, precisionText, kind = ""] = groups;
      bounds.spend(1);
      const width = size(star);
      const precision = /\.(?!\d*\))/.test(whole.replace(/\([^()]*\)/, "")) ? (size(precisionText) ?? 0) : undefined;
      if (kind === "%") return "%";
      if (!/^[diouxXeEfFgGcrsa]$/.test(kind)) throw new TemplateError(`unsupported format in ${JSON.stringify(whole)}`);
      let value: Value;
      if (name === undefined) value = next();
      else {
        if (!(given instanceof Dict)) throw new TemplateError("format requires a mapping");
        const named = given.get(name);
        if (named === undefined) throw new TemplateError(`KeyError: ${name}`);
        value = named;
        used = values.length;
      }
      const field = percentField(value, kind, flags, precision, bounds);
      const left = flags.includes("-") || (width ?? 0) < 0;
      const zero = flags.includes("0") && !left && !/[crsa]/.test(kind);
      bounds.checkLength(Math.abs(width ?? 0));
      const padded = pad(field, Math.abs(width ?? 0), zero ? "0" : " ", left ? "<" : zero ? "=" : ">");
      length += padded.length;
      bounds.checkLength(length);
      return precision === undefined && padded === stringOf(value) ? shownText(value, bounds) : doubted(padded, value);
    },
  );
  // Python does not count the values of what could be a mapping.
  const countless = given instanceof Dict || given instanceof Range || given instanceof Undefined || isList(given);
  if (used < values.length && !countless)
    throw new TemplateError("not all arguments converted during string formatting");
  return result;
}

/** Returns a text in which each match of a pattern is replaced. */
function replaceFields(
  text: string,
  pattern: RegExp,
  replace: (whole: string, ...groups: (string | undefined)[]) => string | Text,
): string | Text {
  const result = new TextBuilder();
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    result.add(text.slice(end, match.index));
    result.add(replace(...(match as unknown as [string, ...string[]])));
    end = match.index + match[0].length;
  }
  result.add(text.slice(end));
  return result.value;
}

/** Returns the text of a value, which is as untrusted as the value. */
const doubted = (text: string, value: Value): string | Text => (hasUntrusted(value) ? distrusted(text) : text);

function percentField(
  value: Value,
  kind: string,
  flags: string,
  precision: number | undefined,
  bounds: Bounds,
): string {
  if (/[rsa]/.test(kind)) {
    const text = kind === "s" ? textOf(value, bounds) : reprOf(value, bounds);
    return precision === undefined ? text : Array.from(text).slice(0, precision).join("");
  }
  if (value instanceof Undefined) value.fail();
  if (kind === "c") {
    const text = stringOf(value);
    if (text !== undefined && characterCount(text) === 1) return text;
    if (isInt(value)) return String.fromCodePoint(Number(value));
    throw new TemplateError("%c requires int or char");
  }
  const number = numberOf(value);
  if (number === undefined)
    throw new TemplateError(`%${kind} format: a real number is required, not ${typeName(value)}`);
  const sign = flags.includes("+") ? "+" : flags.includes(" ") ? " " : "";
  if (/[diouxX]/.test(kind)) {
    if (value instanceof Float && /[oxX]/.test(kind))
      throw new TemplateError(`%${kind} format: an integer is required, not float`);
    const digits = intDigits(toInt(number), kind, flags.includes("#")).replace(
      /(^-?(?:0[xXo])?)(.*)$/,
      (_, before: string, rest: string) => before + rest.padStart(Math.min(precision ?? 0, maxDigits), "0"),
    );
    return withSign(digits, sign);
  }
  return withSign(floatDigits(Number(number), kind, precision ?? 6, flags.includes("#")), sign);
}

function toInt(number: number | bigint): bigint {
  if (typeof number === "number" && !Number.isFinite(number))
    throw new TemplateError(`cannot convert float ${Number.isNaN(number) ? "NaN" : "infinity"} to integer`);
  return typeof number === "bigint" ? number : BigInt(Math.trunc(number));
}

const bases: Readonly<Record<string, [number, string]>> = { b: [2, "0b"], o: [8, "0o"], x: [16, "0x"], X: [16, "0X"] };

function intDigits(value: bigint, kind: string, prefixed: boolean): string {
  const [base, prefix] = bases[kind] ?? [10, ""];
  const digits = (value < 0n ? -value : value).toString(base);
  return (value < 0n ? "-" : "") + (prefixed ? prefix : "") + (kind === "X" ? digits.toUpperCase() : digits);
}

const withSign = (digits: string, sign: string): string => (digits.startsWith("-") ? digits : sign + digits);

/** Returns a float in one of the forms e, f, g and %. */
function floatDigits(value: number, kind: string, precision: number, alternate = false): string {
  if (precision > maxDigits) throw new TemplateError(`expected at most ${maxDigits} digits, got ${precision}`);
  const lower = kind.toLowerCase();
  let text: string;
  if (!Number.isFinite(value)) text = floatText(value);
  else if (lower === "e") text = exponential(value, precision);
  else if (lower === "f") text = (Object.is(value, -0) ? "-" : "") + fixed(value, precision);
  else {
    const digits = Math.max(1, precision);
    const power = value === 0 ? 0 : Number(exponential(value, digits - 1).split("e")[1]);
    const long = power < -4 || power >= digits;
    text = long ? exponential(value, digits - 1) : (Object.is(value, -0) ? "-" : "") + fixed(value, digits - 1 - power);
    if (!alternate)
      text = text.replace(
        /(\.\d*?)0*(e.*)?$/,
        (_, some: string, end?: string) => (some === "." ? "" : some) + (end ?? ""),
      );
  }
  return kind === lower ? text : text.toUpperCase();
}

function exponential(value: number, digits: number): string {
  const [mantissa, power] = halfEven(value, digits, true).split("e");
  return `${Object.is(value, -0) ? "-" : ""}${mantissa}e${power!.startsWith("-") ? "-" : "+"}${power!.replace(/^[-+]/, "").padStart(2, "0")}`;
}

/** Returns a float with a number of digits behind the point. */
export function fixed(value: number, digits: number): string {
  if (Math.abs(value) >= 1e21) return BigInt(value).toString() + (digits > 0 ? `.${"0".repeat(digits)}` : "");
  return halfEven(value, digits, false);
}

/** Rounds to a number of digits; JavaScript rounds a half away from zero, and Python to the even digit. */
function halfEven(value: number, digits: number, exponent: boolean): string {
  const round = (count: number): string => (exponent ? value.toExponential(count) : value.toFixed(count));
  const rounded = round(digits);
  const more = Math.min(100, digits + 30);
  if (more <= digits || !new RegExp(`^-?\\d+\\.\\d{${digits}}50*(e|$)`).test(round(more))) return rounded;
  const cut = round(more).replace(new RegExp(`(\\.\\d{${digits}})\\d*`), digits === 0 ? "" : "$1");
  return /[02468](e|$)/.test(cut) ? cut : rounded;
}

function pad(text: string, width: number, fill: string, align: string): string {
  const missing = Math.max(0, width - characterCount(text));
  if (align === "<") return text + fill.repeat(missing);
  if (align === "^") return fill.repeat(missing >> 1) + text + fill.repeat(missing - (missing >> 1));
  if (align === ">") return fill.repeat(missing) + text;
  const [, before = "", rest = ""] = /^([-+ ]?(?:0[xXob](?=.))?)(.*)$/s.exec(text)!;
  return before + fill.repeat(missing) + rest;
}

/** Returns a value in the form that a specification such as ">10" or ".2f" describes, as Python's format() does. */
export function formatValue(value: Value, spec: string, bounds: Bounds): string {
  if (spec === "") return textOf(value, bounds);
  const match = /^(?:(.)?([<>=^]))?([-+ ])?z?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?$/su.exec(spec);
  const text = stringOf(value);
  const number = numberOf(value);
  if (!match || (text === undefined && number === undefined))
    throw new TemplateError(`expected a format for ${typeName(value)}, got ${JSON.stringify(spec)}`);
  const [, fill, align, sign, alternate, zero, widthText, group, precisionText, kind] = match;
  const width = Number(widthText ?? 0);
  bounds.checkLength(width);
  const precision = precisionText === undefined ? undefined : Number(precisionText);
  let shown: string;
  let usual = ">";
  if (text !== undefined) {
    if ((kind ?? "s") !== "s" || sign || group || align === "=")
      throw new TemplateError(`expected a format for str, got ${JSON.stringify(spec)}`);
    shown = precision === undefined ? text : Array.from(text).slice(0, precision).join("");
    usual = "<";
  } else {
    shown = formatNumber(value, number!, kind, precision, alternate !== undefined);
    if (group) bounds.spend(shown.length ** 2 / 64);
    if (group) shown = shown.replace(/^(-?)(\d+)/, (_, minus: string, digits: string) => minus + digits.replaceAll(/\B(?=(\d{3})+(?!\d))/g, group)); // prettier-ignore
    if (sign === "+" || sign === " ") shown = withSign(shown, sign);
  }
  const [filling, aligning] = [fill ?? (zero ? "0" : " "), align ?? (zero && text === undefined ? "=" : usual)];
  return pad(shown, width, filling, aligning);
}

function formatNumber(
  value: Value,
  number: number | bigint,
  kind: string | undefined,
  precision: number | undefined,
  alternate: boolean,
): string {
  // prettier-ignore
  if (kind === "%") return `${floatDigits(Number(number) * 100, "f", precision ?? 6)}%`;
  if (isInt(value) && (kind === undefined || /^[bcdoxXn]$/.test(kind))) {
    if (precision !== undefined) throw new TemplateError("precision not allowed in integer format specifier");
    return kind === "c" ? String.fromCodePoint(Number(number)) : intDigits(toInt(number), kind ?? "d", alternate);
  }
  if (kind === undefined) {
    if (precision === undefined) return floatText(Number(number));
    const text = floatDigits(Number(number), "g", precision, alternate);
    return /[.en]/.test(text) ? text : `${text}.0`;
  }
  if (!/^[eEfFgG]$/.test(kind)) throw new TemplateError(`unknown format code '${kind}' for ${typeName(value)}`);
  return floatDigits(Number(number), kind, precision ?? 6, alternate);
}

/** The way to attributes and items of a value, which a field of str.format() may name. */
export interface FieldLookup {
  attribute(value: Value, name: string): Value;
  item(value: Value, key: Value): Value;
}

/** Returns a text in which the fields {}, {0} and {name} are replaced by values. */
export function braceFormat(
  text: string,
  args: readonly Value[],
  kwargs: Keywords,
  lookup: FieldLookup,
  bounds: Bounds,
): string | Text {
  // prettier-ignore
  let automatic = 0;
  let numbered = false;
  let length = 0;
  const format = (template: string, depth: number): string | Text => {
    if (depth > 2) throw new TemplateError("Max string recursion exceeded");
    // The search for a field's end may go through the whole text from each sign that could begin or divide one.
    bounds.spend((template.length * (1 + (template.match(/[[!:{]/g)?.length ?? 0))) / 32);
    const pattern = /\{\{|\}\}|\{((?:[^{}[\]]|\[[^\]]*\])*?)(?:!([^:}]*))?(?::((?:[^{}]|\{[^{}]*\})*))?\}|[{}]/g;
    return replaceFields(template, pattern, (whole: string, ...groups: (string | undefined)[]) => {
      const [path, conversion, spec = ""] = groups;
      if (whole === "{{" || whole === "}}") return whole[0]!;
      if (path === undefined) throw new TemplateError(`Single '${whole}' encountered in format string`);
      bounds.spend(1);
      const [, name, rest] = /^([^.[]*)(.*)$/s.exec(path)!;
      const index = name === "" ? String(automatic++) : name!;
      numbered ||= name !== "" && /^\d+$/.test(name!);
      if (numbered && automatic > 0) throw new TemplateError("cannot mix fields with and without numbers");
      let value = /^\d+$/.test(index) ? args[Number(index)] : kwargs.get(index);
      if (value === undefined) throw new TemplateError(`expected an argument ${index} of format()`);
      for (const [, attribute, key] of rest!.matchAll(/\.([^.[]+)|\[([^\]]*)\]/g))
        value = attribute !== undefined ? lookup.attribute(value, attribute) : lookup.item(value, /^\d+$/.test(key!) ? Number(key) : key!); // prettier-ignore
      if (conversion !== undefined && !/^[rsa]$/.test(conversion))
        throw new TemplateError(`expected the conversion r, s or a, got ${conversion}`);
      if (conversion === "s") value = shownText(value, bounds);
      else if (conversion !== undefined) value = doubted(reprOf(value, bounds), value);
      const form = format(spec, depth + 1);
      const shown = formatValue(value, stringOf(form)!, bounds);
      length += shown.length;
      bounds.checkLength(length);
      if (form === "") return shownText(value, bounds);
      return hasUntrusted(form) ? distrusted(shown) : doubted(shown, value);
    });
  };
  return format(text, 1);
}

/** Returns what Python's round() returns for a float and a number of digits. */
export function roundFloat(value: number, digits: number): number {
  if (!Number.isFinite(value) || digits > 22) return value;
  if (digits >= 0) return Number(fixed(value, digits));
  const power = 10 ** -digits;
  return Number(fixed(value / power, 0)) * power;
}
