// Grammars in EBNF as llama.cpp writes it (GBNF): rules `name ::= …` with texts in quotes, sets of characters, groups,
// alternatives, and the repetitions *, +, ? and {least,most}.
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { type Characters, charactersOf, complement, oneOfCharacters } from "./characters.js";
import { anyOf, empty, type Expression, literal, repeat, rule, type Rule, sequenceOf } from "./expression.js";
import { anyCharacter } from "./json-expressions.js";
import { placeName } from "./place-name.js";
import { isPauseDue, spend } from "./work.js";

/** Largest number of repetitions that a grammar may ask for. */
const mostRepetitions = 100_000;

/**
 * Returns the texts of a grammar, which are those of its rule `root`.
 *
 * @throws ERR_ARGUMENT with the line, if the grammar is invalid.
 */
export function* ebnfExpression(grammar: string): Steps<Expression> {
  return yield* new Parser(grammar).grammar();
}

const whiteSpace = /\s*/y;
const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };

class Parser {
  readonly #source: string;
  readonly #rules = new Map<string, Rule>();
  readonly #defined = new Set<string>();
  /** Place of the first use of each rule. */
  readonly #uses = new Map<string, number>();
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  *grammar(): Steps<Expression> {
    this.#skip();
    while (this.#at < this.#source.length) yield* this.#definition();
    for (const [name, at] of this.#uses)
      if (!this.#defined.has(name)) throw this.#error(`a rule named ${placeName(name)}`, "none", at);
    const root = this.#rules.get("root");
    if (!root || !this.#defined.has("root")) throw this.#error("a rule named root", "none", 0);
    return root;
  }

  *#definition(): Steps<void> {
    const at = this.#at;
    const name = this.#name();
    if (name === null) throw this.#error("the name of a rule");
    this.#skip();
    if (!this.#take("::=")) throw this.#error('"::="');
    if (this.#defined.has(name)) throw this.#error(`one rule named ${placeName(name)}`, "a second one", at);
    this.#defined.add(name);
    this.#skip();
    this.#rule(name).body = yield* this.#alternatives();
  }

  #rule(name: string): Rule {
    const found = this.#rules.get(name) ?? rule(name, empty);
    this.#rules.set(name, found);
    return found;
  }

  *#alternatives(): Steps<Expression> {
    const options: Expression[] = [];
    do {
      this.#skip();
      options.push(yield* this.#sequence());
    } while (this.#take("|"));
    return yield* anyOf(options);
  }

  *#sequence(): Steps<Expression> {
    const parts: Expression[] = [];
    for (let part = yield* this.#atom(); part !== null; part = yield* this.#atom()) {
      parts.push(this.#repeated(part));
      this.#skip();
    }
    return sequenceOf(parts);
  }

  #repeated(of: Expression): Expression {
    if (this.#take("*")) return repeat(of, 0);
    if (this.#take("+")) return repeat(of, 1);
    if (this.#take("?")) return repeat(of, 0, 1);
    if (!this.#take("{")) return of;
    const found = /^\s*(\d+)\s*(?:(,)\s*(\d*)\s*)?\}/.exec(this.#source.slice(this.#at, this.#at + 100));
    if (!found) throw this.#error('numbers of repetitions, such as "2,5}"');
    const [all, low, comma, high] = found;
    const least = Number(low);
    const most = comma === undefined ? least : high === "" ? Infinity : Number(high);
    if (least > mostRepetitions || (most !== Infinity && most > mostRepetitions) || most < least)
      throw this.#error(`numbers of repetitions up to ${mostRepetitions}, the smaller one first`);
    this.#at += all.length;
    return repeat(of, least, most);
  }

  /** Returns the next part of a sequence, or null at its end. */
  *#atom(): Steps<Expression | null> {
    spend(1);
    if (isPauseDue()) yield;
    const next = this.#source[this.#at];
    if (next === '"' || next === "'") return yield* this.#text(next);
    if (next === "[") return yield* this.#set();
    if (this.#take(".")) return anyCharacter;
    if (this.#take("(")) {
      const of = yield* this.#alternatives();
      if (!this.#take(")")) throw this.#error('")"');
      return of;
    }
    const at = this.#at;
    const name = this.#name();
    if (name === null) {
      if (next === undefined || next === "|" || next === ")") return null;
      throw this.#error("a text, a set of characters, a name or a group");
    }
    this.#skip();
    // The name of the next rule ends this one.
    if (this.#source.startsWith("::=", this.#at)) {
      this.#at = at;
      return null;
    }
    if (!this.#uses.has(name)) this.#uses.set(name, at);
    return this.#rule(name);
  }

  *#text(quote: string): Steps<Expression> {
    this.#at++;
    let text = "";
    while (!this.#take(quote)) {
      text += this.#character();
      spend(1 / 4);
      if (isPauseDue()) yield;
    }
    return literal(text);
  }

  *#set(): Steps<Expression> {
    this.#at++;
    const negated = this.#take("^");
    const ranges: [number, number][] = [];
    while (!this.#take("]")) {
      const low = this.#character().codePointAt(0)!;
      const isRange = this.#source[this.#at] === "-" && this.#source[this.#at + 1] !== "]";
      if (isRange) this.#at++;
      const high = isRange ? this.#character().codePointAt(0)! : low;
      if (high < low) throw this.#error("a range of characters whose first is the smaller one");
      ranges.push([low, high]);
      spend(1);
      if (isPauseDue()) yield;
    }
    const found: Characters = charactersOf(ranges);
    return yield* oneOfCharacters(negated ? complement(found) : found);
  }

  #character(): string {
    const point = this.#source.codePointAt(this.#at);
    if (point === undefined) throw this.#error("the end of a text or set");
    const character = String.fromCodePoint(point);
    this.#at += character.length;
    if (character !== "\\") return character;
    const name = this.#source[this.#at++] ?? "";
    const digits = { x: 2, u: 4, U: 8 }[name];
    if (digits === undefined) return escapes[name] ?? name;
    const hexadecimal = this.#source.slice(this.#at, this.#at + digits);
    if (!/^[0-9a-fA-F]+$/.test(hexadecimal) || hexadecimal.length < digits || parseInt(hexadecimal, 16) > 0x10ffff)
      throw this.#error(`${digits} hexadecimal digits of a code point`);
    this.#at += digits;
    return String.fromCodePoint(parseInt(hexadecimal, 16));
  }

  #name(): string | null {
    const found = /^[A-Za-z_][A-Za-z0-9_-]*/.exec(this.#source.slice(this.#at, this.#at + 200))?.[0] ?? null;
    if (found !== null) this.#at += found.length;
    return found;
  }

  #take(text: string): boolean {
    const found = this.#source.startsWith(text, this.#at);
    if (found) this.#at += text.length;
    return found;
  }

  /** Skips white space and comments. */
  #skip(): void {
    const from = this.#at;
    for (;;) {
      whiteSpace.lastIndex = this.#at;
      whiteSpace.test(this.#source);
      this.#at = whiteSpace.lastIndex;
      if (this.#source[this.#at] !== "#") break;
      const end = this.#source.indexOf("\n", this.#at);
      this.#at = end === -1 ? this.#source.length : end;
    }
    spend((this.#at - from) / 256);
  }

  #error(wanted: string, got = this.#found(), at = this.#at): HeedError {
    const lines = this.#source.slice(0, at).split("\n");
    const place = `line ${lines.length}, column ${lines.at(-1)!.length + 1}`;
    return new HeedError("ERR_ARGUMENT", `grammar, ${place}: expected ${wanted}, got ${got}`);
  }

  #found(): string {
    return this.#at >= this.#source.length ? "the end" : JSON.stringify(this.#source.slice(this.#at, this.#at + 20));
  }
}
