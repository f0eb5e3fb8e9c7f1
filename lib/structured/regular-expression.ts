// Regular expressions in JavaScript's syntax, with the flag "u".
import { HeedError } from "../errors.js";
import { allCharacters, type Characters, charactersOf, complement, intersection } from "./characters.js";
import { anyOf, type Expression, repeat, sequence, sequenceOf } from "./expression.js";
import { spend } from "./work.js";

/** Options of `regularExpression`. */
export interface RegularExpressionOptions {
  /** Returns one character of a set. */
  readonly character: (of: Characters) => Expression;
  /** True if the expression may match a part of the text, unless "^" and "$" forbid it. */
  readonly search: boolean;
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
 * Returns the texts that a regular expression matches.
 *
 * @throws ERR_ARGUMENT for an expression that is invalid, or has a part that texts cannot be generated for.
 */
export function regularExpression(pattern: string, options: RegularExpressionOptions): Expression {
  // JavaScript's engine looks up each property of characters.
  spend(pattern.length / 8 + 200 * (pattern.match(/\\p\{/gi)?.length ?? 0));
  try {
    new RegExp(pattern, "u");
  } catch (cause) {
    throw new HeedError(
      "ERR_ARGUMENT",
      `${options.what}: expected a regular expression of JavaScript, got ${JSON.stringify(pattern)}: ${(cause as Error).message}`,
      { cause },
    );
  }
  return new Parser(pattern, options).all();
}

/** An alternative at the top: what it matches, and if it is bound to the text's beginning and end. */
interface Anchored {
  readonly of: Expression;
  readonly begins: boolean;
  readonly ends: boolean;
}

class Parser {
  readonly #characters: readonly string[];
  readonly #options: RegularExpressionOptions;
  /** Expressions of the sets that the pattern has had, so that options that begin with the same set are found to do so. */
  readonly #sets = new Map<string, Expression>();
  readonly #properties = new Set<string>();
  #at = 0;

  constructor(pattern: string, options: RegularExpressionOptions) {
    this.#characters = Array.from(pattern);
    this.#options = options;
  }

  all(): Expression {
    const { search } = this.#options;
    const any = repeat(this.#character(allCharacters), 0);
    const options: Expression[] = [];
    do {
      const { of, begins, ends } = this.#anchored();
      const [before, after] = [search && !begins, search && !ends];
      options.push(sequence(...(before ? [any] : []), of, ...(after ? [any] : [])));
    } while (this.#take("|"));
    return anyOf(options);
  }

  #anchored(): Anchored {
    const begins = this.#take("^");
    const of = this.#alternative();
    const ends = this.#take("$");
    if (ends && this.#at < this.#characters.length && this.#peek() !== "|")
      throw this.#unsupported('"$" before the end');
    return { of, begins, ends };
  }

  #group(): Expression {
    const options: Expression[] = [];
    do options.push(this.#alternative());
    while (this.#take("|"));
    if (this.#peek() === "$") throw this.#unsupported('"$" in a group');
    return anyOf(options);
  }

  #alternative(): Expression {
    const parts: Expression[] = [];
    for (let next = this.#peek(); next !== undefined && !"|)$".includes(next); next = this.#peek())
      parts.push(this.#repeated());
    return sequenceOf(parts);
  }

  #repeated(): Expression {
    const of = this.#atom();
    const [least, most] = this.#counts();
    // The set of texts is the same for a lazy quantifier.
    this.#take("?");
    if (least > mostRepetitions || (most !== Infinity && most > mostRepetitions))
      throw this.#unsupported(`more than ${mostRepetitions} repetitions`);
    return least === 1 && most === 1 ? of : repeat(of, least, most);
  }

  #counts(): readonly [number, number] {
    if (this.#take("*")) return [0, Infinity];
    if (this.#take("+")) return [1, Infinity];
    if (this.#peek() === "?") {
      this.#at++;
      return [0, 1];
    }
    if (this.#peek() !== "{") return this.#once();
    const end = this.#characters.indexOf("}", this.#at);
    const [least, most] = this.#characters
      .slice(this.#at + 1, end)
      .join("")
      .split(",");
    this.#at = end + 1;
    return [Number(least), most === undefined ? Number(least) : most === "" ? Infinity : Number(most)];
  }

  #once(): readonly [number, number] {
    return [1, 1];
  }

  #atom(): Expression {
    spend(1);
    if (this.#take("(")) {
      if (this.#take("?")) {
        const kind = this.#characters[this.#at];
        const named = kind === "<" && !"=!".includes(this.#characters[this.#at + 1]!);
        if (kind !== ":" && !named) throw this.#unsupported(`"(?${kind}"`);
        this.#at = (named ? this.#characters.indexOf(">", this.#at) : this.#at) + 1;
      }
      const of = this.#group();
      this.#at++;
      return of;
    }
    if (this.#take("[")) return this.#character(this.#class());
    if (this.#take(".")) return this.#character(complement(lineEnds));
    if (this.#take("\\")) return this.#character(this.#escaped(false));
    if (this.#peek() === "^") throw this.#unsupported('"^" after the beginning');
    return this.#character(one(this.#characters[this.#at++]!.codePointAt(0)!));
  }

  /** Returns one character of a set. */
  #character(of: Characters): Expression {
    spend(of.length);
    const key = of.join();
    const found = this.#sets.get(key) ?? this.#options.character(of);
    this.#sets.set(key, found);
    return found;
  }

  #class(): Characters {
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take("]")) {
      spend(1);
      const first = this.#member();
      if (this.#peek() === "-" && this.#characters[this.#at + 1] !== "]") {
        this.#at++;
        ranges.push([first[0]![0], this.#member()[0]![1]]);
      } else for (const range of first) ranges.push(range);
    }
    spend(ranges.length);
    const found = charactersOf(ranges);
    return negated ? complement(found) : found;
  }

  #member(): Characters {
    return this.#take("\\") ? this.#escaped(true) : one(this.#characters[this.#at++]!.codePointAt(0)!);
  }

  /** Returns the characters of an escape, after its backslash. */
  #escaped(inClass: boolean): Characters {
    const name = this.#characters[this.#at++]!;
    if (name === "d") return digits;
    if (name === "D") return complement(digits);
    if (name === "w") return words;
    if (name === "W") return complement(words);
    if (name === "s") return spaces;
    if (name === "S") return complement(spaces);
    if (name === "p" || name === "P") return this.#property(name);
    if (name === "x") return one(this.#hexadecimal(2));
    if (name === "u") return one(this.#point());
    if (name === "c") return one(this.#characters[this.#at++]!.codePointAt(0)! % 32);
    if (inClass && name === "b") return one(8);
    if (/[bB1-9k]/.test(name)) throw this.#unsupported(`"\\${name}"`);
    return one(controls[name] ?? name.codePointAt(0)!);
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
    // Each is looked for among all characters.
    if (!this.#properties.has(source)) spend(propertyWork);
    this.#properties.add(source);
    return propertyCharacters(source);
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
      `${this.#options.what}: expected a regular expression without ${what}, which heed does not support, got ` +
        JSON.stringify(this.#characters.join("")),
    );
  }
}

function one(point: number): Characters {
  return intersection([[point, point]], allCharacters);
}

/** Steps for the characters of a property. */
const propertyWork = 5000;
/** Largest number of properties that are kept. */
const mostProperties = 64;
const properties = new Map<string, Characters>();
/** All characters, one after the other. */
let everyCharacter: string | null = null;

/** Returns the characters of a Unicode property, such as "\p{L}". */
function propertyCharacters(source: string): Characters {
  const known = properties.get(source);
  if (known) return known;
  everyCharacter ??= charactersFrom(allCharacters);
  const ranges: [number, number][] = [];
  for (const [run] of everyCharacter.matchAll(new RegExp(`${source}+`, "gu")))
    ranges.push([run.codePointAt(0)!, lastPoint(run)]);
  // The characters before and after the surrogates are neighbours in the text.
  const found = charactersOf(ranges);
  if (properties.size >= mostProperties) properties.clear();
  properties.set(source, found);
  return found;
}

function charactersFrom(of: Characters): string {
  const pieces: string[] = [];
  for (const [low, high] of of)
    for (let from = low; from <= high; from += 4096)
      pieces.push(String.fromCodePoint(...Array.from({ length: Math.min(4096, high + 1 - from) }, (_, i) => from + i)));
  return pieces.join("");
}

function lastPoint(text: string): number {
  return text.codePointAt(text.length - (text.codePointAt(text.length - 2)! > 0xffff ? 2 : 1))!;
}
