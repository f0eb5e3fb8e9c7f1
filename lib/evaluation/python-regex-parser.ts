// Parses the regular expressions of Python's module re, as of Python 3.11, into a tree. What Python refuses is refused with
// its reason.
import { HeedError } from "../util/errors.js";
import { caseVariants } from "./python-case.js";
import { pythonSpaces, pythonWords } from "./python-strings.js";

/** Returns true for the code points that a part of an expression matches. */
export type CodeTest = (code: number) => boolean;

/** Place between two characters. */
export type Place = "start" | "end" | "lastLine" | "lineStart" | "lineEnd" | "border" | "inside";

/** Part of a regular expression. */
export type Part =
  | { readonly kind: "one"; readonly test: CodeTest }
  | { readonly kind: "place"; readonly place: Place; readonly isWord: CodeTest }
  | { readonly kind: "sequence"; readonly parts: readonly Part[] }
  | { readonly kind: "choice"; readonly parts: readonly Part[] }
  | { readonly kind: "repeat"; readonly part: Part; readonly min: number; readonly max: number; readonly lazy: boolean }
  | { readonly kind: "group"; readonly part: Part; readonly group: number }
  | { readonly kind: "atomic"; readonly part: Part }
  | { readonly kind: "look"; readonly part: Part; readonly behind: number | null; readonly negative: boolean }
  | { readonly kind: "back"; readonly group: number; readonly same: (a: number, b: number) => boolean }
  | { readonly kind: "if"; readonly group: number; readonly yes: Part; readonly no: Part };

/** A parsed expression, and its number of groups. */
export interface Parsed {
  readonly part: Part;
  readonly groups: number;
}

interface Flags {
  readonly a: boolean;
  readonly i: boolean;
  readonly m: boolean;
  readonly s: boolean;
  readonly x: boolean;
}
type Width = readonly [min: number, max: number];

const empty: Part = { kind: "sequence", parts: [] };

const unicode = (inside: string): CodeTest => {
  const pattern = new RegExp(`[${inside}]`, "u");
  return (code) => pattern.test(String.fromCodePoint(code));
};
const among = (ascii: RegExp, whole: CodeTest): Record<"ascii" | "unicode", CodeTest> => {
  const table = Array.from({ length: 128 }, (_, code) => ascii.test(String.fromCharCode(code)));
  const wide = Array.from({ length: 128 }, (_, code) => whole(code));
  return { ascii: (code) => table[code] ?? false, unicode: (code) => (code < 128 ? wide[code]! : whole(code)) };
};
/** Kinds of characters, by the letters of their escapes. */
const kinds: Readonly<Record<string, Record<"ascii" | "unicode", CodeTest>>> = {
  w: among(/\w/, unicode(pythonWords)),
  d: among(/\d/, unicode(String.raw`\p{Nd}`)),
  s: among(/[\t-\r ]/, unicode(pythonSpaces)),
};

const controls: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11 };

/**
 * Parses a regular expression of Python.
 *
 * @throws ERR_FORMAT if Python refuses it, or it names a character (`\N{…}`); the message says why and where.
 */
export function parsePythonRegex(source: string): Parsed {
  return new Parser(source).parse();
}

class Parser {
  readonly #source: readonly string[];
  #at = 0;
  #groups = 0;
  readonly #names = new Map<string, number>();
  readonly #open = new Set<number>();
  /** Widths of the groups that are closed. */
  readonly #widths = new Map<number, Width>();
  /** Number of groups at the beginning of each lookbehind that is being parsed. */
  readonly #behind: number[] = [];
  #largestCondition = 0;

  constructor(source: string) {
    this.#source = Array.from(source);
  }

  parse(): Parsed {
    let flags: Flags = { a: false, i: false, m: false, s: false, x: false };
    for (;;) {
      if (flags.x) this.#skipComments();
      const [whole, letters] = /^\(\?([a-zA-Z]+)\)/.exec(this.#source.slice(this.#at, this.#at + 16).join("")) ?? [];
      if (whole === undefined) break;
      flags = this.#withFlags(flags, letters!);
      this.#at += whole.length;
    }
    const part = this.#choice(flags);
    if (this.#at < this.#source.length) throw this.#error("unbalanced parenthesis");
    if (this.#largestCondition > this.#groups) throw this.#error(`invalid group reference ${this.#largestCondition}`);
    return { part, groups: this.#groups };
  }

  #error(reason: string): HeedError {
    const source = this.#source.join("");
    return new HeedError("ERR_FORMAT", `expected a regular expression of Python, got ${JSON.stringify(source)}: ${reason} at position ${this.#at}`); // prettier-ignore
  }

  get #next(): string | undefined {
    return this.#source[this.#at];
  }

  #take(expected: string): boolean {
    if (
      !this.#source
        .slice(this.#at, this.#at + expected.length)
        .join("")
        .startsWith(expected)
    )
      return false;
    this.#at += expected.length;
    return true;
  }

  #skipComments(): void {
    while (this.#next !== undefined) {
      if (/[ \t\n\r\f\v]/.test(this.#next)) this.#at++;
      else if (this.#next === "#") while (this.#next !== undefined && this.#source[this.#at++] !== "\n");
      else return;
    }
  }

  #withFlags(flags: Flags, letters: string): Flags {
    const unknown = /[^aimsux]/.exec(letters);
    if (unknown) {
      const reason = unknown[0] === "L" ? "cannot use LOCALE flag with a str pattern" : "unknown flag";
      throw this.#error(reason);
    }
    if (letters.includes("a") && letters.includes("u")) throw this.#error("ASCII and UNICODE flags are incompatible");
    const on = Object.fromEntries(Array.from(letters).map((letter) => [letter, true]));
    return { ...flags, ...on, ...(letters.includes("u") && { a: false }) };
  }

  #choice(flags: Flags): Part {
    const parts = [this.#sequence(flags)];
    while (this.#take("|")) parts.push(this.#sequence(flags));
    return parts.length === 1 ? parts[0]! : { kind: "choice", parts };
  }

  #sequence(flags: Flags): Part {
    const parts: Part[] = [];
    for (;;) {
      if (flags.x) this.#skipComments();
      const next = this.#next;
      if (next === undefined || next === "|" || next === ")") break;
      const part = this.#item(flags);
      if (part === null) continue;
      parts.push(this.#repeated(part, flags));
    }
    return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
  }

  /** Returns a part with the repetition that follows it. */
  #repeated(part: Part, flags: Flags): Part {
    for (;;) {
      if (flags.x) this.#skipComments();
      if (!this.#take("(?#")) break;
      this.#comment();
    }
    const range = this.#range();
    if (!range) return part;
    if (part.kind === "place") throw this.#error("nothing to repeat");
    const [min, max] = range;
    const lazy = this.#take("?");
    const repeat: Part = { kind: "repeat", part, min, max, lazy };
    const whole: Part = !lazy && this.#take("+") ? { kind: "atomic", part: repeat } : repeat;
    if (flags.x) this.#skipComments();
    if (this.#range()) throw this.#error("multiple repeat");
    return whole;
  }

  /** Returns the least and the largest number of a repetition, if there is one here. */
  #range(): Width | null {
    if (this.#take("*")) return [0, Infinity];
    if (this.#take("+")) return [1, Infinity];
    if (this.#take("?")) return [0, 1];
    const rest = this.#source.slice(this.#at, this.#at + 40).join("");
    const [whole, low, comma, high] = /^\{(\d*)(,?)(\d*)\}/.exec(rest) ?? [];
    if (whole === undefined || whole === "{}") return null;
    const min = low === "" ? 0 : Number(low);
    const max = comma === "" ? min : high === "" ? Infinity : Number(high);
    if (max < min) throw this.#error("min repeat greater than max repeat");
    this.#at += whole.length;
    return [min, max];
  }

  /** Returns the next part without a repetition after it; null for a comment. */
  #item(flags: Flags): Part | null {
    const next = this.#source[this.#at]!;
    if (/[*+?]/.test(next) || this.#isRange()) throw this.#error("nothing to repeat");
    this.#at++;
    switch (next) {
      case ".":
        return { kind: "one", test: flags.s ? () => true : (code) => code !== 10 };
      case "^":
        return this.#place(flags.m ? "lineStart" : "start", flags);
      case "$":
        return this.#place(flags.m ? "lineEnd" : "lastLine", flags);
      case "[":
        return { kind: "one", test: this.#set(flags) };
      case "(":
        return this.#group(flags);
      case "\\":
        return this.#escape(flags);
      default:
        return this.#literal(next.codePointAt(0)!, flags);
    }
  }

  #isRange(): boolean {
    return /^\{(\d+,?\d*|,\d*)\}/.test(this.#source.slice(this.#at, this.#at + 40).join(""));
  }

  #place(place: Place, { a }: Flags): Part {
    return { kind: "place", place, isWord: kinds.w![a ? "ascii" : "unicode"] };
  }

  #literal(code: number, { i, a }: Flags): Part {
    const variants = i ? caseVariants(code, a) : [code];
    const test: CodeTest = variants.length === 1 ? (given) => given === code : (given) => variants.includes(given);
    return { kind: "one", test };
  }

  #escape(flags: Flags): Part {
    const letter = this.#next;
    if (letter === undefined) throw this.#error("bad escape (end of pattern)");
    if (/[1-9]/.test(letter)) return this.#number(flags);
    this.#at++;
    const kind = this.#kind(letter, flags);
    if (kind) return { kind: "one", test: kind };
    if (letter === "A") return this.#place("start", flags);
    if (letter === "Z" || letter === "z") return this.#place("end", flags);
    if (letter === "b") return this.#place("border", flags);
    if (letter === "B") return this.#place("inside", flags);
    return this.#literal(this.#escaped(letter), flags);
  }

  /** Returns the part that an escape of digits stands for: a group, or a character by its octal number. */
  #number(flags: Flags): Part {
    const digits = this.#source.slice(this.#at, this.#at + 3).join("");
    const [octal] = /^[0-3][0-7]{2}/.exec(digits) ?? [];
    if (octal !== undefined) {
      this.#at += 3;
      return this.#literal(parseInt(octal, 8), flags);
    }
    if (/^[4-7][0-7]{2}/.test(digits)) throw this.#error(`octal escape value \\${digits} outside of range 0-0o377`);
    const [number] = /^\d{1,2}/.exec(digits)!;
    this.#at += number.length;
    return this.#back(Number(number), flags);
  }

  #back(group: number, { i, a }: Flags): Part {
    this.#checkGroup(group);
    const same = i
      ? (x: number, y: number) => x === y || caseVariants(x, a).includes(y)
      : (x: number, y: number) => x === y;
    return { kind: "back", group, same };
  }

  #checkGroup(group: number): void {
    if (group < 1 || group > this.#groups) throw this.#error(`invalid group reference ${group}`);
    if (this.#open.has(group)) throw this.#error("cannot refer to an open group");
    if (this.#behind.some((groups) => group > groups))
      throw this.#error("cannot refer to group defined in the same lookbehind subpattern");
  }

  /** Returns the test of an escape that stands for a kind of characters. */
  #kind(letter: string, { a }: Flags): CodeTest | null {
    const kind = Object.hasOwn(kinds, letter.toLowerCase())
      ? kinds[letter.toLowerCase()]![a ? "ascii" : "unicode"]
      : null;
    return kind && letter < "a" ? (code) => !kind(code) : kind;
  }

  /** Returns the character of an escape whose first letter has been read. */
  #escaped(letter: string): number {
    if (Object.hasOwn(controls, letter)) return controls[letter]!;
    const lengths: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };
    if (Object.hasOwn(lengths, letter)) {
      const digits = this.#source.slice(this.#at, this.#at + lengths[letter]!).join("");
      const code = parseInt(digits, 16);
      if (!/^[0-9a-fA-F]+$/.test(digits) || digits.length < lengths[letter]! || code > 0x10_ffff)
        throw this.#error(`bad escape \\${letter}${digits}`);
      this.#at += digits.length;
      return code;
    }
    if (letter === "0") {
      const [digits] = /^[0-7]{0,2}/.exec(this.#source.slice(this.#at, this.#at + 2).join(""))!;
      this.#at += digits.length;
      return parseInt(`0${digits}`, 8);
    }
    if (letter === "N") throw this.#error("heed does not know the names of characters (\\N)");
    if (/[a-zA-Z0-9]/.test(letter)) throw this.#error(`bad escape \\${letter}`);
    return letter.codePointAt(0)!;
  }

  /** Returns the test of a set of characters, whose bracket has been read. */
  #set(flags: Flags): CodeTest {
    const negative = this.#take("^");
    const tests: CodeTest[] = [];
    const codes = new Set<number>();
    for (let first = true; first || this.#next !== "]"; first = false) {
      const low = this.#member(flags);
      if (!this.#take("-")) {
        if (typeof low === "number") codes.add(low);
        else tests.push(low);
        continue;
      }
      if (this.#next === "]") {
        if (typeof low === "number") codes.add(low);
        else tests.push(low);
        codes.add(45);
        break;
      }
      const high = this.#member(flags);
      if (typeof low !== "number" || typeof high !== "number" || high < low) throw this.#error("bad character range");
      tests.push((code) => code >= low && code <= high);
    }
    this.#at++;
    const has: CodeTest = (code) => codes.has(code) || tests.some((test) => test(code));
    const matches: CodeTest = flags.i ? (code) => caseVariants(code, flags.a).some(has) : has;
    return negative ? (code) => !matches(code) : matches;
  }

  #member(flags: Flags): number | CodeTest {
    const next = this.#next;
    if (next === undefined) throw this.#error("unterminated character set");
    this.#at++;
    if (next !== "\\") return next.codePointAt(0)!;
    const letter = this.#next;
    if (letter === undefined) throw this.#error("bad escape (end of pattern)");
    const [octal] = /^[0-7]{1,3}/.exec(this.#source.slice(this.#at, this.#at + 3).join("")) ?? [];
    if (octal !== undefined) {
      this.#at += octal.length;
      if (parseInt(octal, 8) > 0o377) throw this.#error(`octal escape value \\${octal} outside of range 0-0o377`);
      return parseInt(octal, 8);
    }
    this.#at++;
    return this.#kind(letter, flags) ?? (letter === "b" ? 8 : this.#escaped(letter));
  }

  /** Returns the group whose parenthesis has been read; null for a comment. */
  #group(flags: Flags): Part | null {
    if (!this.#take("?")) return this.#capture(null, flags);
    if (this.#take("P<")) return this.#capture(this.#name(">"), flags);
    if (this.#take("P=")) {
      const name = this.#name(")");
      const group = this.#names.get(name);
      if (group === undefined) throw this.#error(`unknown group name ${JSON.stringify(name)}`);
      return this.#back(group, flags);
    }
    if (this.#take("#")) {
      this.#comment();
      return null;
    }
    if (this.#take(":")) return this.#closed(this.#choice(flags));
    if (this.#take(">")) return { kind: "atomic", part: this.#closed(this.#choice(flags)) };
    for (const [sign, negative] of [
      ["=", false],
      ["!", true],
    ] as const) {
      // prettier-ignore
      if (this.#take(sign)) return { kind: "look", part: this.#closed(this.#choice(flags)), behind: null, negative };
      if (this.#take(`<${sign}`)) return this.#lookBehind(negative, flags);
    }
    if (this.#take("(")) return this.#condition(flags);
    return this.#scoped(flags);
  }

  /** Reads a comment, whose beginning has been read. */
  #comment(): void {
    while (this.#next !== undefined && this.#next !== ")") this.#at++;
    this.#close("missing ), unterminated comment");
  }

  #capture(name: string | null, flags: Flags): Part {
    const group = ++this.#groups;
    if (name !== null) {
      if (this.#names.has(name)) throw this.#error(`redefinition of group name ${JSON.stringify(name)}`);
      this.#names.set(name, group);
    }
    this.#open.add(group);
    const part = this.#closed(this.#choice(flags));
    this.#open.delete(group);
    this.#widths.set(group, widthOf(part, this.#widths));
    return { kind: "group", part, group };
  }

  #lookBehind(negative: boolean, flags: Flags): Part {
    this.#behind.push(this.#groups);
    const part = this.#closed(this.#choice(flags));
    this.#behind.pop();
    const [min, max] = widthOf(part, this.#widths);
    if (min !== max) throw this.#error("look-behind requires fixed-width pattern");
    return { kind: "look", part, behind: min, negative };
  }

  #condition(flags: Flags): Part {
    const name = this.#name(")");
    const group = /^\d+$/.test(name) ? Number(name) : this.#names.get(name);
    if (group === undefined) throw this.#error(`unknown group name ${JSON.stringify(name)}`);
    // A condition may be about a group that is open or comes later, but not within a lookbehind.
    if (group === 0 || this.#behind.length > 0) this.#checkGroup(group);
    this.#largestCondition = Math.max(this.#largestCondition, group);
    const yes = this.#sequence(flags);
    const no = this.#take("|") ? this.#sequence(flags) : empty;
    if (this.#next === "|") throw this.#error("conditional backref with more than two branches");
    return this.#closed({ kind: "if", group, yes, no });
  }

  /** Returns a group with flags of its own, such as `(?i:…)` or `(?s-i:…)`. */
  #scoped(flags: Flags): Part {
    const rest = this.#source.slice(this.#at, this.#at + 20).join("");
    const [whole, on, off, end] = /^([a-zA-Z]*)(?:-([a-zA-Z]+))?([:)])/.exec(rest) ?? [];
    if (whole === undefined || (on === "" && off === undefined))
      throw this.#error(`unknown extension ?${this.#next ?? ""}`);
    if (end === ")") throw this.#error("global flags not at the start of the expression");
    const scoped = this.#withFlags(flags, on!);
    const wrong = /[^imsx]/.exec(off ?? "");
    if (wrong) throw this.#error(`bad inline flags: cannot turn off flag ${wrong[0]}`);
    if (Array.from(off ?? "").some((letter) => on!.includes(letter)))
      throw this.#error("bad inline flags: flag turned on and off");
    const without = Object.fromEntries(Array.from(off ?? "").map((letter) => [letter, false]));
    this.#at += whole.length;
    return this.#closed(this.#choice({ ...scoped, ...without }));
  }

  #name(end: string): string {
    let name = "";
    while (this.#next !== undefined && this.#next !== end) name += this.#source[this.#at++]!;
    this.#close(`missing ${end}, unterminated name`);
    const isNumber = end === ")" && /^\d+$/.test(name);
    if (!isNumber && !/^[\p{L}_][\p{L}\p{N}\p{M}_]*$/u.test(name))
      throw this.#error(name === "" ? "missing group name" : `bad character in group name ${JSON.stringify(name)}`);
    return name;
  }

  #close(reason: string): void {
    if (this.#next === undefined) throw this.#error(reason);
    this.#at++;
  }

  #closed(part: Part): Part {
    if (!this.#take(")")) throw this.#error("missing ), unterminated subpattern");
    // A group counts as one part for the repetition after it.
    return part.kind === "place" ? { kind: "sequence", parts: [part] } : part;
  }
}

/**
 * Returns the smallest and the largest number of characters that a part matches. `groups` has those of the groups that it
 * refers to.
 */
export function widthOf(part: Part, groups: ReadonlyMap<number, Width> = new Map()): Width {
  const sum = (parts: readonly Part[]): Width =>
    parts.map((one) => widthOf(one, groups)).reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
  switch (part.kind) {
    case "one":
      return [1, 1];
    case "place":
    case "look":
      return [0, 0];
    case "sequence":
      return sum(part.parts);
    case "choice":
      return part.parts.map((one) => widthOf(one, groups)).reduce(([a, b], [c, d]) => [Math.min(a, c), Math.max(b, d)]);
    case "repeat": {
      const [min, max] = widthOf(part.part, groups);
      return [min * part.min, max === 0 ? 0 : max * part.max];
    }
    case "group":
    case "atomic":
      return widthOf(part.part, groups);
    case "back":
      return groups.get(part.group) ?? [0, Infinity];
    case "if": {
      const [[a, b], [c, d]] = [widthOf(part.yes, groups), widthOf(part.no, groups)];
      return [Math.min(a, c), Math.max(b, d)];
    }
  }
}
