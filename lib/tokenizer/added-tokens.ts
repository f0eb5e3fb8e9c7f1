// The added tokens of a tokenizer.json. They are searched for in a text before the text is cut into pieces. The file
// may set these flags for a token:
//   single_word  the token is found only as a word of its own
//   lstrip       the token includes the white space before it
//   rstrip       the token includes the white space after it
//   normalized   the token is searched for in the normalized text instead of the original text
import { describe, HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { noRanges, overlaps, type Ranges } from "./jinja/ranges.js";
import { PairTable } from "./pair-table.js";

/** An entry of `added_tokens`. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** True if the token stands for no text, such as the token that ends a text. */
  readonly special: boolean;
  readonly singleWord: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
}

/** Returns a token's entry in a tokenizer.json. Hugging Face's library requires every field. */
export function addedTokenJson(id: number, content: string, special: boolean): Record<string, unknown> {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}

/**
 * Reads the list `added_tokens` of a tokenizer.json.
 *
 * @throws ERR_FORMAT if the list, or an entry of it, has another form.
 */
export function parseAddedTokens(list: unknown): AddedToken[] {
  if (!Array.isArray(list)) throw fault("added_tokens to be an array", list);
  return list.map((entry: unknown, i) => {
    if (typeof entry !== "object" || entry === null) throw fault(`added_tokens[${i}] to be an object`, entry);
    const given = entry as Record<string, unknown>;
    const { id, content } = given;
    if (!isId(id)) throw fault(`added_tokens[${i}].id to be an integer from 0 to ${mostTokens - 1}`, id);
    if (typeof content !== "string" || content === "")
      throw fault(`added_tokens[${i}].content to be a string that is not empty`, content);
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

/**
 * Number of ids that tokens may have. It keeps tables indexed by id small; the largest existing vocabularies have about
 * a million tokens.
 */
export const mostTokens = 2 ** 21;

export function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < mostTokens;
}

/** Text between two added tokens, which begins at the UTF-16 unit `from`. */
export interface Section {
  readonly text: string;
  readonly from: number;
}

/** A part of a text: the id of an added token, or the text between two added tokens. */
export type Part = number | Section;

const wordBefore = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const wordAfter = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const space = /\p{White_Space}/u;

/** Number of UTF-16 units that are searched in one step for the first character of a token. */
const windowLength = 2 ** 16;
const stride = 1024;

/** Finds tokens in texts by their spelling. If several tokens begin at the same place, the longest one is found. */
export class TokenFinder {
  /** The edges of a trie of all tokens, by node and UTF-16 unit. Node 0 is the root. */
  readonly #children: PairTable;
  /** The token that ends at each node of the trie. */
  readonly #tokens: (AddedToken | undefined)[] = [undefined];
  /** Matches every character that begins a token; null if there are no tokens. */
  readonly #beginning: RegExp | null;
  #hasSpecial = false;

  private constructor(units: number, beginnings: ReadonlySet<string>) {
    this.#children = new PairTable(units);
    const escaped = Array.from(beginnings, (first) => first.replace(/[\\^$.*+?()[\]{}|/-]/, "\\$&"));
    this.#beginning = escaped.length === 0 ? null : new RegExp(`[${escaped.join("")}]`, "gu");
  }

  /** Builds a finder. If two tokens have the same spelling, the last one counts. */
  static *of(tokens: readonly (readonly [written: string, token: AddedToken])[]): Steps<TokenFinder> {
    const beginnings = new Set<string>();
    let units = 0;
    for (const [written] of tokens) {
      if (written !== "") beginnings.add(String.fromCodePoint(written.codePointAt(0)!));
      units += written.length;
    }
    const finder = new TokenFinder(units, beginnings);
    for (const [i, [written, token]] of tokens.entries()) {
      finder.#add(written, token);
      if (i % stride === 0) yield;
    }
    return finder;
  }

  /** True if one of the tokens is special. */
  get hasSpecial(): boolean {
    return this.#hasSpecial;
  }

  #add(written: string, token: AddedToken): void {
    if (written === "") return;
    this.#hasSpecial ||= token.special;
    let node = 0;
    for (let i = 0; i < written.length; i++) {
      let child = this.#children.get(node, written.charCodeAt(i));
      if (child < 0) {
        child = this.#tokens.push(undefined) - 1;
        this.#children.set(node, written.charCodeAt(i), child);
      }
      node = child;
    }
    this.#tokens[node] = token;
  }

  /**
   * Yields the parts of a text in order, and undefined whenever the caller may pause the work. No special token is found
   * that has a character in the untrusted parts of the text.
   */
  *split(text: string, untrusted: Ranges = noRanges): Generator<Part | undefined> {
    let from = 0;
    for (const found of this.#found(text, untrusted)) {
      if (!found) {
        yield;
        continue;
      }
      const { token } = found;
      let { start, end } = found;
      // Two UTF-16 units are enough for any character.
      const alone =
        !wordBefore.test(text.slice(Math.max(0, start - 2), start)) && !wordAfter.test(text.slice(end, end + 2));
      // A token that begins in white space which the token before it includes is not found.
      if (start < from || (token.singleWord && !alone)) continue;
      for (let step = 1; token.lstrip && start > from && space.test(text[start - 1]!); step++) {
        start--;
        if (step % stride === 0) yield;
      }
      for (let step = 1; token.rstrip && end < text.length && space.test(text[end]!); step++) {
        end++;
        if (step % stride === 0) yield;
      }
      if (from < start) yield { text: text.slice(from, start), from };
      yield token.id;
      from = end;
    }
    if (from < text.length) yield { text: text.slice(from), from };
  }

  /**
   * Yields the added tokens of a text in order, with their positions, and undefined whenever the caller may pause the
   * work.
   */
  *#found(text: string, untrusted: Ranges): Generator<{ token: AddedToken; start: number; end: number } | undefined> {
    if (this.#beginning === null) return;
    for (let at = 0, step = 1; at < text.length; step++) {
      const start = this.#nextBeginning(text, at);
      if (start < 0) {
        at = Math.min(at + windowLength, text.length);
        yield;
        continue;
      }
      const found = this.#longestAt(text, start, untrusted);
      if (found) yield { start, ...found };
      else if (step % stride === 0) yield;
      at = found?.end ?? start + 1;
    }
  }

  /**
   * Returns the next position at which a token may begin, within the window that starts at `at`; -1 if there is none.
   */
  #nextBeginning(text: string, at: number): number {
    // If the window ends within a surrogate pair, the pair either does not begin a token, or the search finds it when
    // the next window starts.
    const window = text.slice(at, at + windowLength + 1);
    this.#beginning!.lastIndex = 0;
    const index = this.#beginning!.exec(window)?.index ?? -1;
    return index < 0 ? -1 : at + index;
  }

  #longestAt(text: string, start: number, untrusted: Ranges): { token: AddedToken; end: number } | null {
    let found: { token: AddedToken; end: number } | null = null;
    for (let node = 0, at = start; at < text.length;) {
      node = this.#children.get(node, text.charCodeAt(at++));
      if (node < 0) break;
      const token = this.#tokens[node];
      if (token && !(token.special && overlaps(untrusted, start, at))) found = { token, end: at };
    }
    return found;
  }
}

/** Returns the boolean `entry[name]`, or `otherwise` if the entry does not have it. */
function flag(entry: Record<string, unknown>, name: string, i: number, otherwise: boolean): boolean {
  const value = entry[name] ?? otherwise;
  if (typeof value === "boolean") return value;
  throw fault(`added_tokens[${i}].${name} to be true or false`, value);
}

function fault(expected: string, got: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `tokenizer.json: expected ${expected}, got ${describe(got)}`);
}
