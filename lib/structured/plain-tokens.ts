// The tokens that consist of the characters of free texts. At most places of most formats they may follow if they are not
// too long, so that nearly all of a vocabulary needs no walk: of 151,936 tokens of o200k_base 147,083 are of this kind.
import type { Steps } from "../util/turns.js";
import { isFree } from "./plain-characters.js";

/** A token, with a character for each of its bytes. */
export interface TokenText {
  readonly key: string;
  readonly id: number;
}

/** Largest number of characters of such a token; those with more of them are among the others. */
const mostCharacters = 250;

/** Number of tokens between two pauses. */
const piece = 1024;

/** Tokens of characters of free texts. */
export class PlainTokens {
  /** Number of characters of the longest of them. */
  readonly longest: number;
  /** Tokens by their number of characters; those with n characters end at index n of `ends`. */
  readonly #ids: Int32Array;
  readonly #ends: Int32Array;
  /** A bit for each of them. */
  readonly #all: Int32Array;

  private constructor(byLength: readonly (readonly number[])[], size: number) {
    this.longest = byLength.length - 1;
    let end = 0;
    this.#ends = Int32Array.from(byLength, (ids) => (end += ids.length));
    this.#ids = new Int32Array(end);
    for (const [i, ids] of byLength.entries()) this.#ids.set(ids, this.#ends[i]! - ids.length);
    this.#all = new Int32Array(Math.ceil(size / 32));
    setBits(this.#all, this.#ids);
  }

  /** Finds the tokens of free texts among those of a vocabulary of `size` tokens, and returns the others, too. */
  static *from(tokens: readonly TokenText[], size: number): Steps<{ free: PlainTokens; others: TokenText[] }> {
    const byLength: number[][] = [[]];
    const others: TokenText[] = [];
    for (const [i, token] of tokens.entries()) {
      if (i % piece === 0) yield;
      const length = lengthOf(token.key);
      if (length === null || length > mostCharacters) others.push(token);
      else {
        while (byLength.length <= length) byLength.push([]);
        byLength[length]!.push(token.id);
      }
    }
    yield;
    return { free: new PlainTokens(byLength, size), others };
  }

  /** Adds those of at most `most` characters to a set of tokens, which has a bit for each of them. */
  addTo(bits: Int32Array, most: number): void {
    if (most < this.longest) setBits(bits, this.#ids.subarray(0, this.#ends[most]));
    else for (const [i, word] of this.#all.entries()) bits[i]! |= word;
  }
}

function setBits(bits: Int32Array, ids: Int32Array): void {
  for (const id of ids) bits[id >> 5]! |= 1 << (id & 31);
}

/** Characters of free texts that are bytes. */
const freeBytes = /^[ !#-[\]-~]*$/;
const bytesOnly = /^[\0-\x7f]*$/;

/** Returns the number of characters of a token of free texts; null for any other one. */
function lengthOf(key: string): number | null {
  if (freeBytes.test(key)) return key.length;
  if (bytesOnly.test(key)) return null;
  let length = 0;
  for (const character of Buffer.from(key, "latin1").toString()) {
    // What is no UTF-8 becomes U+FFFD. A token with this very character is then among the others, where it costs a look.
    if (character === "\ufffd" || !isFree(character.codePointAt(0)!)) return null;
    length++;
  }
  return length;
}
