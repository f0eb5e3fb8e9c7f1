// Regular expressions in JavaScript's syntax, with the flag "u".
import { HeedError } from "../errors.js";
import { allCharacters, type Characters, charactersOf, complement, intersection } from "./characters.js";
import { choice, type Expression, repeat, sequence } from "./expression.js";

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
  #at = 0;

  constructor(pattern: string, options: RegularExpressionOptions) {
    this.#characters = Array.from(pattern);
    this.#options = options;
  }

  all(): Expression {
    const { search, character } = this.#options;
    const any = repeat(character(allCharacters), 0);
    const options: Expression[] = [];
    do {
      const { of, begins, ends } = this.#anchored();
      const [before, after] = [search && !begins, search && !ends];
      options.push(sequence(...(before ? [any] : []), of, ...(after ? [any] : [])));
    } while (this.#take("|"));
    return choice(...options);
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
    return choice(...options);
  }

  #alternative(): Expression {
    const parts: Expression[] = [];
    for (let next = this.#peek(); next !== undefined && !"|)$".includes(next); next = this.#peek())
      parts.push(this.#repeated());
    return sequence(...parts);
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
    const { character } = this.#options;
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
    if (this.#take("[")) return character(this.#class());
    if (this.#take(".")) return character(complement(lineEnds));
    if (this.#take("\\")) return character(this.#escaped(false));
    if (this.#peek() === "^") throw this.#unsupported('"^" after the beginning');
    return character(one(this.#characters[this.#at++]!.codePointAt(0)!));
  }

  #class(): Characters {
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take("]")) {
      const first = this.#member();
      if (this.#peek() === "-" && this.#characters[this.#at + 1] !== "]") {
        this.#at++;
        ranges.push([first[0]![0], this.#member()[0]![1]]);
      } else ranges.push(...first);
    }
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
    return propertyCharacters(`\\${kind}${name}`);
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

const properties = new Map<string, Characters>();

/** Returns the characters of a Unicode property, such as "\p{L}". */
function propertyCharacters(source: string): Characters {
  const known = properties.get(source);
  if (known) return known;
  const expression = new RegExp(`^${source}$`, "u");
  const ranges: [number, number][] = [];
  for (let point = 0; point <= 0x10ffff; point++) {
    if (!expression.test(String.fromCodePoint(point))) continue;
    const last = ranges.at(-1);
    if (last?.[1] === point - 1) last[1] = point;
    else ranges.push([point, point]);
  }
  const found = charactersOf(ranges);
  properties.set(source, found);
  return found;
}
