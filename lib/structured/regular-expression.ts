// Regular expressions in JavaScript's syntax, with the flag "u". Those that JavaScript reads only without it are read as
// it does: real schemas have many, such as "[\\w-.]" and "\\-".
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { allCharacters, type Characters, charactersOf, complement, intersection } from "./characters.js";
import type { Expression } from "./expression.js";
import {
  anyPattern,
  hasAssertions,
  type Pattern,
  patternExpression,
  searchLanguage,
  wholeLanguage,
} from "./pattern.js";
import { placeName } from "./place-name.js";
import type { Language } from "./language.js";
import { Languages } from "./text-language.js";
import { findProperties, propertyCharacters } from "./unicode-properties.js";
import { isPauseDue, spend, withoutPauses } from "./work.js";

/** Options of `regularExpression`. */
export interface RegularExpressionOptions {
  /** Returns one character of a set. */
  readonly character: (of: Characters) => Steps<Expression>;
  /** Name of the place that has the expression, for errors. */
  readonly what: string;
}

/** Largest number of repetitions that an expression may ask for. */
const mostRepetitions = 100_000;

const digits: Characters = [[0x30, 0x39]];
const words = charactersOf([...digits, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]);
const spaces = charactersOf(
  [9, 10, 11, 12, 13, 32, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000, 0xfeff]
    .map((one): [number, number] => [one, one])
    .concat([[0x2000, 0x200a]]),
);
const lineEnds = charactersOf([
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
]);
const controls: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 };

/**
 * Returns the texts that a regular expression matches as a whole.
 *
 * @throws ERR_ARGUMENT for an expression that is invalid, or has a part that texts cannot be generated for.
 */
export function* regularExpression(source: string, { character, what }: RegularExpressionOptions): Steps<Expression> {
  const pattern = yield* readPattern(source, what);
  const plain = withoutAnchors(pattern, false);
  if (plain) return yield* patternExpression(plain, character);
  const make = new Languages();
  return yield* make.expression(yield* wholeLanguage(pattern, make, refusal(source, what)), character, what);
}

/**
 * Returns the parts of a regular expression.
 *
 * @throws ERR_ARGUMENT as `regularExpression` does.
 */
export function* readPattern(source: string, what: string): Steps<Pattern> {
  // JavaScript's engine looks up each property of characters.
  const properties = source.match(/\\p\{/gi)?.length ?? 0;
  spend(source.length / 8 + 200 * properties, source.length / 64 + 20 * properties);
  const isUnicode = hasUnicodeSyntax(source, what);
  // They are found before, since the parser cannot pause for them.
  if (isUnicode) yield* findProperties(source);
  return yield* new Parser(source, what, isUnicode).all();
}

/** Returns the texts in which a regular expression matches a part. It throws what `readPattern` throws. */
export function* languageOfSearch(source: string, pattern: Pattern, make: Languages, what: string): Steps<Language> {
  return yield* searchLanguage(pattern, make, refusal(source, what));
}

/** Returns an expression as errors show it. */
function shown(source: string): string {
  return JSON.stringify(source.length > 200 ? `${source.slice(0, 200)}…` : source);
}

/** Returns true if an expression can be read with the flag "u", and false if only without it. */
function hasUnicodeSyntax(source: string, what: string): boolean {
  try {
    new RegExp(source, "u");
    return true;
  } catch (cause) {
    try {
      new RegExp(source);
      return false;
    } catch {
      // The rest of the message is the expression again.
      const reason = (cause as Error).message.split(": ").at(-1)!;
      throw new HeedError(
        "ERR_ARGUMENT",
        `${placeName(what)}: expected a regular expression of JavaScript, got ${shown(source)}: ${reason}`,
        { cause },
      );
    }
  }
}

/**
 * Returns the same without anchors, for the text as a whole: with any characters around it if `search` is true and no
 * anchor forbids them. Returns null if there are lookaheads, or anchors at other places than the ends of alternatives.
 */
export function withoutAnchors(pattern: Pattern, search: boolean): Pattern | null {
  const any: Pattern = { kind: "repeat", of: anyPattern, least: 0, most: Infinity };
  const options: Pattern[] = [];
  for (const option of pattern.kind === "choice" ? pattern.options : [pattern]) {
    const parts = option.kind === "sequence" ? option.parts : [option];
    const from = parts[0]?.kind === "start" ? 1 : 0;
    const to = parts.length > from && parts.at(-1)!.kind === "end" ? parts.length - 1 : parts.length;
    const rest = parts.slice(from, to);
    if (rest.some(hasAssertions)) return null;
    const [before, after] = [search && from === 0, search && to === parts.length];
    options.push({ kind: "sequence", parts: [...(before ? [any] : []), ...rest, ...(after ? [any] : [])] });
  }
  return options.length === 1 ? options[0]! : { kind: "choice", options };
}

function refusal(source: string, what: string): (part: string) => never {
  return (part) => {
    throw new HeedError(
      "ERR_ARGUMENT",
      `${placeName(what)}: expected a regular expression without ${part}, which heed does not support, got ${shown(source)}`,
    );
  };
}

/** Characters that JavaScript's expressions without the flag "u" read as one. */
const oneUnit: Characters = [[0, 0xffff]];

class Parser {
  readonly #characters: readonly string[];
  readonly #what: string;
  readonly #unicode: boolean;
  #at = 0;

  constructor(source: string, what: string, unicode: boolean) {
    this.#characters = Array.from(source);
    this.#what = what;
    this.#unicode = unicode;
  }

  *all(): Steps<Pattern> {
    return yield* this.#choice();
  }

  *#choice(): Steps<Pattern> {
    const options: Pattern[] = [];
    do options.push(yield* this.#alternative());
    while (this.#take("|"));
    return options.length === 1 ? options[0]! : { kind: "choice", options };
  }

  *#alternative(): Steps<Pattern> {
    const parts: Pattern[] = [];
    for (let next = this.#peek(); next !== undefined && next !== "|" && next !== ")"; next = this.#peek())
      parts.push(yield* this.#repeated());
    return { kind: "sequence", parts };
  }

  *#repeated(): Steps<Pattern> {
    const of = yield* this.#atom();
    const [least, most] = this.#counts();
    // The set of texts is the same for a lazy quantifier.
    this.#take("?");
    if (least > mostRepetitions || (most !== Infinity && most > mostRepetitions))
      throw this.#unsupported(`more than ${mostRepetitions} repetitions`);
    return least === 1 && most === 1 ? of : { kind: "repeat", of, least, most };
  }

  #counts(): readonly [number, number] {
    if (this.#take("*")) return [0, Infinity];
    if (this.#take("+")) return [1, Infinity];
    if (this.#peek() === "?") {
      this.#at++;
      return [0, 1];
    }
    if (this.#peek() !== "{") return once;
    let end = this.#at + 1;
    while (/^[\d,]$/.test(this.#characters[end] ?? "")) end++;
    const counts = this.#characters.slice(this.#at + 1, end).join("");
    // Without the flag "u", a bracket that gives no count is a character.
    if (this.#characters[end] !== "}" || !/^\d+(?:,\d*)?$/.test(counts)) return once;
    const [least, most] = counts.split(",");
    this.#at = end + 1;
    return [Number(least), most === undefined ? Number(least) : most === "" ? Infinity : Number(most)];
  }

  *#atom(): Steps<Pattern> {
    spend(1);
    if (isPauseDue()) yield;
    if (this.#take("(")) return yield* this.#group();
    if (this.#take("^")) return { kind: "start" };
    if (this.#take("$")) return { kind: "end" };
    if (this.#take("[")) return this.#set(yield* this.#class());
    if (this.#take(".")) return this.#set(this.#not(lineEnds));
    if (this.#take("\\")) return this.#set(this.#escaped());
    return this.#set(one(this.#characters[this.#at++]!.codePointAt(0)!));
  }

  /** Returns the group whose bracket has been read. */
  *#group(): Steps<Pattern> {
    let look: boolean | null = null;
    if (this.#take("?")) {
      const kind = this.#characters[this.#at];
      const named = kind === "<" && !"=!".includes(this.#characters[this.#at + 1]!);
      if (kind === "=" || kind === "!") look = kind === "!";
      else if (kind !== ":" && !named) throw this.#unsupported(`"(?${kind}"`);
      this.#at = (named ? this.#characters.indexOf(">", this.#at) : this.#at) + 1;
    }
    const of = yield* this.#choice();
    this.#at++;
    return look === null ? of : { kind: "look", of, negative: look };
  }

  #set(of: Characters): Pattern {
    spend(of.length);
    return { kind: "characters", of };
  }

  /** Returns all other characters. */
  #not(of: Characters): Characters {
    return this.#unicode ? complement(of) : intersection(complement(of), oneUnit);
  }

  *#class(): Steps<Characters> {
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take("]")) {
      spend(1);
      if (isPauseDue()) yield;
      const first = this.#member();
      if (this.#peek() !== "-" || this.#characters[this.#at + 1] === "]") {
        for (const range of rangesOf(first)) ranges.push(range);
        continue;
      }
      this.#at++;
      const last = this.#member();
      if (typeof first === "number" && typeof last === "number") ranges.push([first, last]);
      // Without the flag "u", a dash beside a class of characters is one itself.
      else for (const range of [...rangesOf(first), ...rangesOf(last), [0x2d, 0x2d] as const]) ranges.push(range);
    }
    spend(ranges.length);
    const found = charactersOf(ranges);
    return negated ? this.#not(found) : found;
  }

  /** Returns a character of a class, or the characters of a class within it. */
  #member(): number | Characters {
    const found = this.#take("\\") ? this.#escape(true) : this.#characters[this.#at++]!.codePointAt(0)!;
    if (!this.#unicode && typeof found === "number" && found > 0xffff) throw this.#unsupported("half a character");
    return found;
  }

  #escaped(): Characters {
    const found = this.#escape(false);
    return typeof found === "number" ? one(found) : found;
  }

  /** Returns the character or the characters of an escape, after its backslash. */
  #escape(inClass: boolean): number | Characters {
    const name = this.#characters[this.#at++]!;
    if (!this.#unicode && /[pPkcux0-9]/.test(name)) throw this.#unsupported(`"\\${name}" and errors beside it`);
    if (name === "d") return digits;
    if (name === "D") return this.#not(digits);
    if (name === "w") return words;
    if (name === "W") return this.#not(words);
    if (name === "s") return spaces;
    if (name === "S") return this.#not(spaces);
    if (name === "p" || name === "P") return this.#property(name);
    if (name === "x") return this.#hexadecimal(2);
    if (name === "u") return this.#point();
    if (name === "c") return this.#characters[this.#at++]!.codePointAt(0)! % 32;
    if (inClass && name === "b") return 8;
    if (/[bB1-9k]/.test(name)) throw this.#unsupported(`"\\${name}"`);
    return controls[name] ?? name.codePointAt(0)!;
  }

  #point(): number {
    if (!this.#take("{")) {
      const high = this.#hexadecimal(4);
      const pair = high >= 0xd800 && high < 0xdc00 && this.#characters.slice(this.#at, this.#at + 2).join("") === "\\u";
      if (!pair) return high;
      this.#at += 2;
      return 0x10000 + (high - 0xd800) * 0x400 + this.#hexadecimal(4) - 0xdc00;
    }
    const end = this.#characters.indexOf("}", this.#at);
    const point = parseInt(this.#characters.slice(this.#at, end).join(""), 16);
    this.#at = end + 1;
    return point;
  }

  #hexadecimal(count: number): number {
    const point = parseInt(this.#characters.slice(this.#at, this.#at + count).join(""), 16);
    this.#at += count;
    return point;
  }

  #property(kind: string): Characters {
    const end = this.#characters.indexOf("}", this.#at);
    const name = this.#characters.slice(this.#at, end + 1).join("");
    this.#at = end + 1;
    const source = `\\${kind}${name}`;
    return withoutPauses(propertyCharacters(source));
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #take(character: string): boolean {
    const found = this.#characters[this.#at] === character;
    if (found) this.#at++;
    return found;
  }

  #unsupported(what: string): HeedError {
    return new HeedError(
      "ERR_ARGUMENT",
      `${placeName(this.#what)}: expected a regular expression without ${what}, which heed does not support, got ` +
        shown(this.#characters.join("")),
    );
  }
}

const once = [1, 1] as const;

function rangesOf(member: number | Characters): Characters {
  return typeof member === "number" ? [[member, member]] : member;
}

function one(point: number): Characters {
  return intersection([[point, point]], allCharacters);
}
