// Regular expressions from strangers. JavaScript's own go back and forth over a text: (a|a)*b needs 2ⁿ steps to find that
// n letters have no b. This one finds the same matches in time proportional to the length of text and expression: it also
// backtracks, but a step of the expression that has failed at a place in the text will fail there again, whatever came
// before, and is not tried twice. That holds without back references, which are refused, as is what JavaScript treats
// by its history: a part that is repeated and may be empty.
// After Davis, Servant and Lee, "Using Selective Memoization to Defeat Regular Expression Denial of Service" (2021).
import { HeedError } from "../errors.js";
import { parseExpression, type Tree } from "./parse-expression.js";

/** The most instructions of an expression. A search takes at most this many steps for each character. */
const maxInstructions = 2048;
/** The most memory, in bytes, for remembering which steps have failed where in a text. */
const maxBytes = 2 ** 28;

/** The set of characters that a class, or a single character of an expression, matches. */
class CharacterSet {
  readonly #expression: RegExp;
  /** For each low code point: 1 if it is in the set, 2 if it is not, 0 if that is not known yet. */
  readonly #known = new Uint8Array(0x400);

  constructor(source: string) {
    this.#expression = new RegExp(source, "uy");
  }

  /** Tells whether the character at this place is in the set. */
  has(text: string, at: number, codePoint: number): boolean {
    if (codePoint >= this.#known.length) return this.#test(text, at);
    return (this.#known[codePoint] ||= this.#test(text, at) ? 1 : 2) === 1;
  }

  #test(text: string, at: number): boolean {
    this.#expression.lastIndex = at;
    return this.#expression.test(text);
  }
}

type Instruction =
  | { op: "character"; set: CharacterSet; backwards: boolean }
  /** Goes on at `first`, and where that fails at `second`. */
  | { op: "split"; first: number; second: number; index: number }
  | { op: "jump"; to: number }
  | { op: "assert"; holds: (text: string, at: number) => boolean }
  | { op: "look"; start: number; negative: boolean; index: number }
  | { op: "match" };

/** A match from `start` up to `end`. */
type Span = readonly [start: number, end: number];

/** The replacement of a match: a text in which $& is the match and $$ a dollar, or a function of the match. */
type Replacement = string | ((match: string) => string);

/**
 * Stands in for a regular expression with the flags g and u where a text is matched, cut or replaced by it. Groups catch
 * nothing.
 */
export class LinearExpression {
  /** Some methods of strings want to see them. */
  readonly flags = "gu";
  readonly #program: Instruction[] = [];
  readonly #sets = new Map<string, CharacterSet>();
  readonly #start: number;
  #splits = 0;
  #looks = 0;
  /** A bit for each split and place: whether it was tried there. */
  #tried = new Uint32Array(0);
  /** A byte for each look and place: 1 where it holds, 2 where it does not. */
  #seen = new Uint8Array(0);
  /** Splits that are being tried, and where; negative from their second way on. */
  #stack = new Int32Array(64);
  #height = 0;

  /** Throws ERR_FORMAT for expressions that are too large, or that cannot be searched for in linear time. */
  constructor(readonly source: string) {
    const tree = parseExpression(source);
    this.#start = this.#body(tree, false);
  }

  [Symbol.match](text: string): string[] | null {
    const found = this.#spans(text).map(([start, end]) => text.slice(start, end));
    return found.length === 0 ? null : found;
  }

  [Symbol.matchAll](text: string): Iterable<{ 0: string; index: number }> {
    return this.#spans(text).map(([start, end]) => ({ 0: text.slice(start, end), index: start }));
  }

  [Symbol.split](text: string): string[] {
    const parts: string[] = [];
    let from = 0;
    for (const [start, end] of this.#spans(text)) {
      if (end === start && (start === from || start === text.length)) continue;
      parts.push(text.slice(from, start));
      from = end;
    }
    return [...parts, text.slice(from)];
  }

  [Symbol.replace](text: string, replacement: Replacement): string {
    const instead =
      typeof replacement === "string"
        ? (match: string) => replacement.replace(/\$[$&]/g, (sign) => (sign === "$&" ? match : "$"))
        : replacement;
    let result = "";
    let from = 0;
    for (const [start, end] of this.#spans(text)) {
      result += text.slice(from, start) + instead(text.slice(start, end));
      from = end;
    }
    return result + text.slice(from);
  }

  /** All matches, from left to right. */
  #spans(text: string): Span[] {
    this.#forget(text.length + 1);
    const spans: Span[] = [];
    for (let at = 0; at <= text.length;) {
      const end = this.#run(this.#start, text, at);
      if (end >= 0) spans.push([at, end]);
      at = end > at ? end : at + ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1);
    }
    return spans;
  }

  #forget(places: number): void {
    const words = Math.ceil((this.#splits * places) / 32);
    const bytes = this.#looks * places;
    if (4 * words + bytes > maxBytes)
      throw new HeedError(
        "ERR_RANGE",
        `tokenizer: expected a text of fewer than ${Math.floor(maxBytes / (this.#splits / 8 + this.#looks))} characters ` +
          `for the regular expression ${quoted(this.source)}, got ${places - 1}`,
      );
    if (this.#tried.length < words) this.#tried = new Uint32Array(words);
    else this.#tried.fill(0, 0, words);
    if (this.#seen.length < bytes) this.#seen = new Uint8Array(bytes);
    else this.#seen.fill(0, 0, bytes);
  }

  /** Returns the end of the match that begins here, by the instructions from `start` on, or -1 if there is none. */
  #run(start: number, text: string, from: number): number {
    const base = this.#height;
    let [next, at] = [start, from];
    for (;;) {
      const instruction = this.#program[next]!;
      if (instruction.op === "match") {
        this.#release(base, text.length + 1);
        return at;
      }
      if (instruction.op === "split") {
        if (this.#claim(instruction.index * (text.length + 1) + at)) {
          this.#push(next, at);
          next = instruction.first;
          continue;
        }
      } else if (instruction.op === "jump") {
        next = instruction.to;
        continue;
      } else if (instruction.op === "character") {
        const moved = step(instruction, text, at);
        if (moved >= 0) {
          at = moved;
          next++;
          continue;
        }
      } else if (instruction.op === "assert" ? instruction.holds(text, at) : this.#look(instruction, text, at)) {
        next++;
        continue;
      }
      // It failed here: the second way of the last split that has one.
      while (this.#height > base && this.#stack[this.#height - 2]! < 0) this.#height -= 2;
      if (this.#height === base) return -1;
      next = this.#stack[this.#height - 2]!;
      at = this.#stack[this.#height - 1]!;
      this.#stack[this.#height - 2] = ~next;
      next = (this.#program[next] as { second: number }).second;
    }
  }

  #look({ start, negative, index }: Instruction & { op: "look" }, text: string, at: number): boolean {
    const place = index * (text.length + 1) + at;
    this.#seen[place] ||= this.#run(start, text, at) >= 0 ? 1 : 2;
    return (this.#seen[place] === 1) !== negative;
  }

  /** Notes that a split is tried at a place; false where it was before. */
  #claim(bit: number): boolean {
    const [word, mask] = [Math.floor(bit / 32), 1 << (bit & 31)];
    if (this.#tried[word]! & mask) return false;
    this.#tried[word]! |= mask;
    return true;
  }

  /** The splits on the way to a match have not failed. */
  #release(base: number, places: number): void {
    while (this.#height > base) {
      this.#height -= 2;
      const next = this.#stack[this.#height]!;
      const { index } = this.#program[next < 0 ? ~next : next] as { index: number };
      const bit = index * places + this.#stack[this.#height + 1]!;
      this.#tried[Math.floor(bit / 32)]! &= ~(1 << (bit & 31));
    }
  }

  #push(next: number, at: number): void {
    if (this.#height === this.#stack.length) {
      const larger = new Int32Array(2 * this.#stack.length);
      larger.set(this.#stack);
      this.#stack = larger;
    }
    this.#stack[this.#height++] = next;
    this.#stack[this.#height++] = at;
  }

  /** Compiles an expression of its own, and returns where its instructions begin. */
  #body(tree: Tree, backwards: boolean): number {
    const start = this.#program.length;
    this.#compile(tree, backwards);
    this.#emit({ op: "match" });
    return start;
  }

  #compile(tree: Tree, backwards: boolean): void {
    switch (tree.kind) {
      case "character":
        this.#emit({ op: "character", set: this.#set(tree.source), backwards });
        break;
      case "assert":
        this.#emit({ op: "assert", holds: assertions[tree.sign] });
        break;
      case "look": {
        const jump = this.#emit({ op: "jump", to: 0 });
        const start = this.#body(tree.body, tree.behind);
        jump.to = this.#program.length;
        this.#emit({ op: "look", start, negative: tree.negative, index: this.#looks++ });
        break;
      }
      case "sequence":
        for (const part of backwards ? tree.parts.toReversed() : tree.parts) this.#compile(part, backwards);
        break;
      case "choice":
        this.#choice(tree.options, backwards);
        break;
      case "repeat":
        this.#repeat(tree, backwards);
    }
  }

  #choice(options: readonly Tree[], backwards: boolean): void {
    const ends = options.map((option, i) => {
      const split = i < options.length - 1 ? this.#split() : null;
      if (split) split.first = this.#program.length;
      this.#compile(option, backwards);
      const end = split && this.#emit({ op: "jump", to: 0 });
      if (split) split.second = this.#program.length;
      return end;
    });
    for (const end of ends) if (end) end.to = this.#program.length;
  }

  #repeat({ body, min, max, lazy }: Tree & { kind: "repeat" }, backwards: boolean): void {
    for (let i = 0; i < min; i++) {
      const at = this.#program.length;
      this.#compile(body, backwards);
      // Nothing, however often.
      if (this.#program.length === at) break;
    }
    const splits: (Instruction & { op: "split" })[] = [];
    for (let i = min; i < (max === Infinity ? min + 1 : max); i++) {
      const at = this.#program.length;
      splits.push(this.#split());
      this.#compile(body, backwards);
      if (max === Infinity) this.#emit({ op: "jump", to: at });
    }
    for (const split of splits) {
      const inside = this.#program.indexOf(split) + 1;
      const after = this.#program.length;
      [split.first, split.second] = lazy ? [after, inside] : [inside, after];
    }
  }

  #split(): Instruction & { op: "split" } {
    return this.#emit({ op: "split", first: 0, second: 0, index: this.#splits++ });
  }

  #set(source: string): CharacterSet {
    let set = this.#sets.get(source);
    if (!set) this.#sets.set(source, (set = new CharacterSet(source)));
    return set;
  }

  #emit<T extends Instruction>(instruction: T): T {
    if (this.#program.push(instruction) > maxInstructions)
      throw new HeedError(
        "ERR_FORMAT",
        `tokenizer: expected a regular expression of at most ${maxInstructions} steps, with what it repeats written out, ` +
          `got ${quoted(this.source)}`,
      );
    return instruction;
  }
}

/** Returns the place after the character here (before it when looking back), or -1 if it is not in the set. */
function step({ set, backwards }: Instruction & { op: "character" }, text: string, at: number): number {
  if (!backwards) {
    const codePoint = text.codePointAt(at);
    if (codePoint === undefined || !set.has(text, at, codePoint)) return -1;
    return at + (codePoint > 0xffff ? 2 : 1);
  }
  if (at === 0) return -1;
  const wide = at > 1 && text.codePointAt(at - 2)! > 0xffff;
  const before = at - (wide ? 2 : 1);
  return set.has(text, before, text.codePointAt(before)!) ? before : -1;
}

const isWord = (text: string, at: number): boolean => /^\w/.test(text.charAt(at));
const atBoundary = (text: string, at: number): boolean => isWord(text, at - 1) !== isWord(text, at);

const assertions: Readonly<Record<"^" | "$" | "b" | "B", (text: string, at: number) => boolean>> = {
  "^": (_, at) => at === 0,
  $: (text, at) => at === text.length,
  b: atBoundary,
  B: (text, at) => !atBoundary(text, at),
};

/** An expression in a message. */
export function quoted(source: string): string {
  return JSON.stringify(source.length > 200 ? `${source.slice(0, 200)}…` : source);
}
