// Searches one text for a linear expression (see linear-expression.ts).
import { HeedError } from "../util/errors.js";

/** Maximum memory, in bytes, for remembering which steps have failed at which position of a text. */
const maxBytes = 2 ** 28;
/** Number of instructions between two yields. */
const stride = 2 ** 14;

/** The set of characters that a character class, or a single character of an expression, matches. */
export class CharacterSet {
  readonly #expression: RegExp;
  /** Known membership by code point, below 0x400: 1 if it is in the set, 2 if it is not, 0 if it is not known yet. */
  readonly #known = new Uint8Array(0x400);

  constructor(source: string) {
    this.#expression = new RegExp(source, "uy");
  }

  /** Returns true if the character at this position is in the set. */
  has(text: string, at: number, codePoint: number): boolean {
    if (codePoint >= this.#known.length) return this.#test(text, at);
    return (this.#known[codePoint] ||= this.#test(text, at) ? 1 : 2) === 1;
  }

  #test(text: string, at: number): boolean {
    this.#expression.lastIndex = at;
    return this.#expression.test(text);
  }
}

/** An instruction of a compiled expression. */
export type Instruction =
  | { op: "character"; set: CharacterSet; backwards: boolean }
  /** Continues at `first`; if that fails, at `second`. */
  | { op: "split"; first: number; second: number; index: number }
  | { op: "jump"; to: number }
  | { op: "assert"; holds: (text: string, at: number) => boolean }
  | { op: "look"; start: number; negative: boolean; index: number }
  | { op: "match" };

/** A compiled expression. */
export interface Program {
  readonly source: string;
  readonly instructions: readonly Instruction[];
  readonly start: number;
  readonly splits: number;
  readonly looks: number;
}

/** The search for one expression in one text. */
export class LinearSearch {
  readonly #program: Program;
  readonly #text: string;
  /** One bit for each split and position: 1 if the split has been tried there. */
  readonly #tried: Uint32Array;
  /** One byte for each look and position: 1 if the look holds there, 2 if it does not, 0 if that is not known yet. */
  readonly #seen: Uint8Array;
  /**
   * The splits that are being tried, each followed by its position. From its second branch on, a split is stored as its
   * complement, which is negative.
   */
  #stack = new Int32Array(64);
  #height = 0;
  #steps = 0;

  /**
   * Prepares the search in a text.
   *
   * @throws ERR_RANGE if the text is so long that the search would have to remember too much.
   */
  constructor(program: Program, text: string) {
    [this.#program, this.#text] = [program, text];
    const { splits, looks, source } = program;
    const places = text.length + 1;
    const words = Math.ceil((splits * places) / 32);
    const bytes = looks * places;
    if (4 * words + bytes > maxBytes)
      throw new HeedError(
        "ERR_RANGE",
        `tokenizer: expected a text of fewer than ${Math.floor(maxBytes / (splits / 8 + looks))} characters ` +
          `for the regular expression ${quoted(source)}, got ${places - 1}`,
      );
    [this.#tried, this.#seen] = [new Uint32Array(words), new Uint8Array(bytes)];
  }

  /**
   * Returns the end of the match that begins at `at`, or -1 if there is none. Yields whenever the caller may pause the
   * work.
   */
  matchEnd(at: number): Generator<undefined, number> {
    return this.#run(this.#program.start, at);
  }

  /**
   * Returns the end of the match that begins at `from` with the instructions from `start` on, or -1 if there is none.
   */
  *#run(start: number, from: number): Generator<undefined, number> {
    const text = this.#text;
    const { instructions } = this.#program;
    const base = this.#height;
    let [next, at] = [start, from];
    for (;;) {
      if (++this.#steps % stride === 0) yield;
      const instruction = instructions[next]!;
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
      } else if (instruction.op === "assert" ? instruction.holds(text, at) : yield* this.#look(instruction, at)) {
        next++;
        continue;
      }
      // The match failed here: continue with the second branch of the latest split that still has one.
      while (this.#height > base && this.#stack[this.#height - 2]! < 0) this.#height -= 2;
      if (this.#height === base) return -1;
      next = this.#stack[this.#height - 2]!;
      at = this.#stack[this.#height - 1]!;
      this.#stack[this.#height - 2] = ~next;
      next = (instructions[next] as { second: number }).second;
    }
  }

  *#look({ start, negative, index }: Instruction & { op: "look" }, at: number): Generator<undefined, boolean> {
    const place = index * (this.#text.length + 1) + at;
    this.#seen[place] ||= (yield* this.#run(start, at)) >= 0 ? 1 : 2;
    return (this.#seen[place] === 1) !== negative;
  }

  /** Marks a split as tried at a position. Returns false if it was marked before. */
  #claim(bit: number): boolean {
    const [word, mask] = [Math.floor(bit / 32), 1 << (bit & 31)];
    if (this.#tried[word]! & mask) return false;
    this.#tried[word]! |= mask;
    return true;
  }

  /** Removes the marks of the splits that led to a match, since they have not failed. */
  #release(base: number, places: number): void {
    while (this.#height > base) {
      this.#height -= 2;
      const next = this.#stack[this.#height]!;
      const { index } = this.#program.instructions[next < 0 ? ~next : next] as { index: number };
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
}

/**
 * Returns the position after the character at `at` (before the character when the expression looks back), or -1 if the
 * character is not in the set.
 */
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

/** Returns an expression in quotation marks for a message; a long one is shortened. */
export function quoted(source: string): string {
  return JSON.stringify(source.length > 200 ? `${source.slice(0, 200)}…` : source);
}
