// The added tokens of a tokenizer.json: they are found in a text before it is cut into pieces. A token may ask to stand
// as a word of its own (single_word), to take the white space before or after it (lstrip, rstrip), and to be found in
// the text as the normalizer leaves it (normalized).
import { describe, HeedError } from "../errors.js";

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether it is no text, as the token that ends one. */
  readonly special: boolean;
  readonly singleWord: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
}

/** A token as a tokenizer.json lists it. Hugging Face's library wants every field. */
export function addedTokenJson(id: number, content: string, special: boolean): Record<string, unknown> {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}

/** Reads a list of them. Throws ERR_FORMAT. */
export function parseAddedTokens(list: unknown): AddedToken[] {
  if (!Array.isArray(list)) throw fault("added_tokens in an array", list);
  return list.map((entry: unknown, i) => {
    if (typeof entry !== "object" || entry === null) throw fault(`added_tokens[${i}] to be an object`, entry);
    const given = entry as Record<string, unknown>;
    const { id, content } = given;
    if (!isId(id)) throw fault(`added_tokens[${i}].id to be an integer from 0 to ${mostTokens - 1}`, id);
    if (typeof content !== "string" || content === "") throw fault(`added_tokens[${i}].content`, content);
    const special = flag(given, "special", i, false);
    return {
      id,
      content,
      special,
      singleWord: flag(given, "single_word", i, false),
      lstrip: flag(given, "lstrip", i, false),
      rstrip: flag(given, "rstrip", i, false),
      normalized: flag(given, "normalized", i, !special),
    };
  });
}

/** Ids stay small enough for tables of them: the largest vocabularies there are have a million tokens. */
export const mostTokens = 2 ** 21;

export function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < mostTokens;
}

/** A text in parts: tokens that were found in it, by id, and what lies between. */
export type Part = number | string;

const wordBefore = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const wordAfter = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const space = /\p{White_Space}/u;

/** Finds tokens in texts by how they are written; of those that begin at one place, the longest. */
export class TokenFinder {
  readonly #tokens: ReadonlyMap<string, AddedToken>;
  /** The lengths of the tokens that begin with a character, the longest first. */
  readonly #lengths = new Map<string, number[]>();
  /** Finds the next character that a token begins with; null where there are no tokens. */
  readonly #beginning: RegExp | null;

  constructor(tokens: readonly (readonly [written: string, token: AddedToken])[]) {
    this.#tokens = new Map(tokens.filter(([written]) => written !== ""));
    const lengths = new Map<string, Set<number>>();
    for (const written of this.#tokens.keys()) {
      const first = String.fromCodePoint(written.codePointAt(0)!);
      lengths.set(first, (lengths.get(first) ?? new Set()).add(written.length));
    }
    for (const [first, given] of lengths)
      this.#lengths.set(
        first,
        [...given].sort((a, b) => b - a),
      );
    const escaped = [...lengths.keys()].map((first) => first.replace(/[\\^$.*+?()[\]{}|/-]/, "\\$&"));
    this.#beginning = escaped.length === 0 ? null : new RegExp(`[${escaped.join("")}]`, "gu");
  }

  split(text: string): Part[] {
    if (this.#beginning === null) return text === "" ? [] : [text];
    const parts: Part[] = [];
    let from = 0;
    for (const [index, written] of this.#found(text)) {
      const token = this.#tokens.get(written)!;
      let [start, end] = [index, index + written.length];
      // Two UTF-16 units hold any character.
      const alone =
        !wordBefore.test(text.slice(Math.max(0, start - 2), start)) && !wordAfter.test(text.slice(end, end + 2));
      // White space that a token has taken is no other's.
      if (start < from || (token.singleWord && !alone)) continue;
      if (token.lstrip) while (start > from && space.test(text[start - 1]!)) start--;
      if (token.rstrip) while (end < text.length && space.test(text[end]!)) end++;
      if (from < start) parts.push(text.slice(from, start));
      parts.push(token.id);
      from = end;
    }
    if (from < text.length) parts.push(text.slice(from));
    return parts;
  }

  /** Yields the added tokens in a text, in order, each with its index and as it is written there. */
  *#found(text: string): Generator<[index: number, written: string]> {
    const beginning = new RegExp(this.#beginning!);
    for (let match = beginning.exec(text); match; match = beginning.exec(text)) {
      const { index } = match;
      const length = this.#lengths.get(match[0])!.find((length) => this.#tokens.has(text.slice(index, index + length)));
      if (length === undefined) continue;
      beginning.lastIndex = index + length;
      yield [index, text.slice(index, index + length)];
    }
  }
}

/** An entry that is true or false, or `otherwise` where nothing is said. */
function flag(entry: Record<string, unknown>, name: string, i: number, otherwise: boolean): boolean {
  const value = entry[name] ?? otherwise;
  if (typeof value === "boolean") return value;
  throw fault(`added_tokens[${i}].${name} to be true or false`, value);
}

function fault(expected: string, got: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `tokenizer.json: expected ${expected}, got ${describe(got)}`);
}
