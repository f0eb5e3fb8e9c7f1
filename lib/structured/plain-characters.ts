// Characters that many texts may have in any order, and the tokens that consist of them. Where a text may go on with any
// characters of such a set, those tokens are known without a look at each of their bytes (compare the slices of llguidance
// and Dong et al. 2024, arXiv:2411.15100).
import { atOnce, type Steps } from "../util/turns.js";
import { type Characters, complement, intersection, oneOfCharacters } from "./characters.js";
import type { Expression } from "./expression.js";

/** Characters of free texts: all but controls, line ends and JSON's escapes. */
const free: Characters = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0x7e],
  [0xa0, 0x2027],
  [0x202a, 0xd7ff],
  [0xe000, 0x10ffff],
];
const lettersAndDigits: Characters = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x61, 0x7a],
];
/** White space among the characters of free texts, as patterns know it. */
const spaces: Characters = [
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];

/** Sets of characters: those of free texts, letters and digits, and those of words. */
const sets: readonly Characters[] = [free, lettersAndDigits, intersection(free, complement(spaces))];

/** One character of each of the sets, as its bytes. */
export const plainCharacters: readonly Expression[] = sets.map((of) => atOnce(oneOfCharacters(of)));

/** Number of characters of each set. */
export const plainTotals: readonly number[] = sets.map(sizeOf);

/** Returns the number of characters of each set that are among others. */
export function plainCounts(of: Characters): readonly number[] {
  return sets.map((set) => sizeOf(intersection(set, of)));
}

function sizeOf(of: Characters): number {
  return of.reduce((sum, [low, high]) => sum + high - low + 1, 0);
}

/** Mark of a node that leads to a token with another character. */
export const notPlain = 255;

function isIn(set: Characters, point: number): boolean {
  return set.some(([low, high]) => low <= point && point <= high);
}

/** Returns true for a character of free texts, the first of the sets. */
export function isFree(point: number): boolean {
  return isIn(free, point);
}

/** The nodes of a tree of tokens, as `TokenTrie` has them. */
interface Nodes {
  readonly bytes: Uint8Array;
  readonly ends: Int32Array;
  readonly firsts: Int32Array;
}

/**
 * Returns for each of the sets and each node the largest number of characters that its tokens have from its own byte on,
 * or `notPlain` unless all of them consist of characters of the set from there on.
 */
export function* plainLengths(nodes: Nodes): Steps<readonly Uint8Array[]> {
  const found: Uint8Array[] = [];
  for (const set of sets) {
    found.push(lengthsWithin(set, nodes));
    yield;
  }
  return found;
}

function lengthsWithin(set: Characters, { bytes, ends, firsts }: Nodes): Uint8Array {
  const found = new Uint8Array(bytes.length);
  /** Returns the number for the nodes below one, if `missing` bytes of a character follow. */
  const below = (node: number, missing: number, point: number): number => {
    if (missing === 0 && !isIn(set, point)) return notPlain;
    // A token ends within a character.
    if (missing > 0 && firsts[node]! < firsts[node + 1]!) return notPlain;
    let most = 0;
    for (let child = node + 1; child < ends[node]! && most < notPlain; child = ends[child]!) {
      const one = bytes[child]!;
      const next =
        missing === 0
          ? found[child]!
          : one >> 6 === 2
            ? below(child, missing - 1, (point << 6) | (one & 0x3f))
            : notPlain;
      most = Math.max(most, next);
    }
    return most;
  };
  // Those below a node come after it.
  for (let node = bytes.length - 1; node >= 0; node--) {
    const one = bytes[node]!;
    const size = one < 0x80 ? 1 : one >> 5 === 6 ? 2 : one >> 4 === 14 ? 3 : one >> 3 === 30 ? 4 : 0;
    if (size === 0) {
      found[node] = notPlain;
      continue;
    }
    const most = below(node, size - 1, size === 1 ? one : one & (0x7f >> size));
    // What is written in more bytes than it needs is no character, and neither is a part of one.
    found[node] = most === notPlain || isOverlong(one, bytes[node + 1] ?? 0) ? notPlain : lengthOf(most);
  }
  return found;
}

/** Returns the number of characters with one before them. */
function lengthOf(more: number): number {
  return Math.min(more + 1, notPlain);
}

/** Returns true for the beginning of a character that has a shorter form; E0 and F0 are decided by their next bytes. */
function isOverlong(first: number, second: number): boolean {
  return first === 0xc0 || first === 0xc1 || (first === 0xe0 && second < 0xa0) || (first === 0xf0 && second < 0x90);
}
