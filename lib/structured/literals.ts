// Values that are nearly JSON: Python's literals, and those of Gemma, whose strings stand between tokens and whose keys have
// no quotes.
import { pythonWords } from "./call-values.js";

/** Rules for how values are written. */
export interface Literals {
  /** Texts between which a string stands. */
  readonly quotes: readonly string[];
  /** True if strings have escapes, as Python's have. */
  readonly escapes: boolean;
}

/** Finds the ends of members that are separated by commas, up to the bracket that ends them all. */
export class MemberEnd {
  readonly #literals: Literals;
  #depth = 0;
  /** The quote that ends the string; null outside of strings. */
  #quote: string | null = null;
  #escaped = false;
  /** The last characters, in which quotes of several characters are found. */
  #last = "";

  constructor(literals: Literals) {
    this.#literals = literals;
  }

  /** Takes the next character; returns if it belongs to a member, separates two, or ends the last. */
  push(character: string): "within" | "separator" | "end" {
    const { quotes, escapes } = this.#literals;
    if (this.#escaped) {
      this.#escaped = false;
      return "within";
    }
    if (escapes && this.#quote !== null && character === "\\") {
      this.#escaped = true;
      return "within";
    }
    this.#last = (this.#last + character).slice(-16);
    const quote = quotes.find((one) => this.#last.endsWith(one) && (this.#quote === null || this.#quote === one));
    if (quote !== undefined) {
      this.#quote = this.#quote === null ? quote : null;
      this.#last = "";
      return "within";
    }
    if (this.#quote !== null) return "within";
    if ("{[(".includes(character)) this.#depth++;
    else if ("}])".includes(character) && --this.#depth < 0) return "end";
    return character === "," && this.#depth === 0 ? "separator" : "within";
  }
}

/** Returns a value as JSON. What is none is a string. */
export function readLiteral(text: string, literals: Literals): string {
  const reader = new Reader(text, literals);
  try {
    const value = reader.value(0);
    if (reader.atEnd) return JSON.stringify(value);
  } catch {
    // It is a text.
  }
  return JSON.stringify(text.trim());
}

/** Most brackets within brackets. */
const mostDepth = 200;

class Reader {
  readonly #text: string;
  readonly #literals: Literals;
  #at = 0;

  constructor(text: string, literals: Literals) {
    this.#text = text;
    this.#literals = literals;
  }

  get atEnd(): boolean {
    this.#skip();
    return this.#at === this.#text.length;
  }

  value(depth: number): unknown {
    if (depth > mostDepth) throw new Error("too deep");
    this.#skip();
    const quote = this.#literals.quotes.find((one) => this.#text.startsWith(one, this.#at));
    if (quote !== undefined) return this.#string(quote);
    const next = this.#text[this.#at];
    if (next === "[" || next === "(") return this.#list(next === "[" ? "]" : ")", depth);
    if (next === "{") return this.#object(depth);
    return this.#word();
  }

  #skip(): void {
    while (/\s/.test(this.#text[this.#at] ?? "")) this.#at++;
  }

  #takes(character: string): boolean {
    this.#skip();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #string(quote: string): string {
    let found = "";
    for (let at = this.#at + quote.length; at < this.#text.length; at++) {
      if (this.#text.startsWith(quote, at)) {
        this.#at = at + quote.length;
        return found;
      }
      if (!this.#literals.escapes || this.#text[at] !== "\\") {
        found += this.#text[at]!;
        continue;
      }
      const [escape, hexadecimal] = /^\\(?:u([0-9a-fA-F]{4})|x[0-9a-fA-F]{2}|[^])/.exec(this.#text.slice(at)) ?? ["\\"];
      found += unescaped(escape, hexadecimal);
      at += escape.length - 1;
    }
    throw new Error("a string without an end");
  }

  #list(close: string, depth: number): unknown[] {
    this.#at++;
    const items: unknown[] = [];
    while (!this.#takes(close)) {
      items.push(this.value(depth + 1));
      if (!this.#takes(",") && this.#text[this.#at] !== close) throw new Error("a list without commas");
    }
    return items;
  }

  #object(depth: number): object {
    this.#at++;
    const members: [string, unknown][] = [];
    while (!this.#takes("}")) {
      this.#skip();
      const quote = [...this.#literals.quotes, '"'].find((one) => this.#text.startsWith(one, this.#at));
      const key = quote === undefined ? this.#until(/[:}]/) : this.#string(quote);
      if (!this.#takes(":")) throw new Error("a key without a value");
      members.push([key, this.value(depth + 1)]);
      if (!this.#takes(",") && this.#text[this.#at] !== "}") throw new Error("an object without commas");
    }
    return Object.fromEntries(members);
  }

  #until(end: RegExp): string {
    const begin = this.#at;
    while (this.#at < this.#text.length && !end.test(this.#text[this.#at]!)) this.#at++;
    return this.#text.slice(begin, this.#at).trim();
  }

  #word(): unknown {
    const word = this.#until(/[,\]})]/);
    if (pythonWords.has(word)) return pythonWords.get(word);
    try {
      return JSON.parse(word);
    } catch {
      // Python's numbers may have other forms, and some models leave out the quotes.
    }
    const value = /^[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/.test(word)
      ? Number(word.replaceAll("_", ""))
      : NaN;
    if (Number.isFinite(value)) return value;
    if (word === "") throw new Error("no value");
    return word;
  }
}

const shortEscapes: Readonly<Record<string, string>> = {
  ...{ n: "\n", t: "\t", r: "\r", b: "\b", f: "\f", a: "\x07", v: "\v", "0": "\0", "\n": "" },
};

function unescaped(escape: string, hexadecimal: string | undefined): string {
  if (hexadecimal !== undefined) return String.fromCharCode(Number.parseInt(hexadecimal, 16));
  if (escape.length === 4) return String.fromCharCode(Number.parseInt(escape.slice(2), 16));
  const character = escape.slice(1);
  return shortEscapes[character] ?? (/["'\\/]/.test(character) ? character : escape);
}
