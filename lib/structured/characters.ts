// Sets of characters, and the bytes of UTF-8 that they become.
import type { Steps } from "../util/turns.js";
import { byte, choiceOf, type Expression, sequence } from "./expression.js";
import { isPauseDue, spend } from "./work.js";

/** Ranges of code points, sorted, without overlaps. */
export type Characters = readonly (readonly [low: number, high: number])[];

/** All code points that UTF-8 has: all but the surrogates. */
export const allCharacters: Characters = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
];

/** Returns the union of ranges in any order, without surrogates. */
export function charactersOf(ranges: Iterable<readonly [low: number, high: number]>): Characters {
  const joined: [number, number][] = [];
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else joined.push([low, high]);
  }
  return intersection(joined, allCharacters);
}

export function intersection(a: Characters, b: Characters): Characters {
  const both: [number, number][] = [];
  for (let [i, j] = [0, 0]; i < a.length && j < b.length;) {
    const low = Math.max(a[i]![0], b[j]![0]);
    const high = Math.min(a[i]![1], b[j]![1]);
    if (low <= high) both.push([low, high]);
    if (a[i]![1] < b[j]![1]) i++;
    else j++;
  }
  return both;
}

export function complement(of: Characters): Characters {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [low, high] of of) {
    if (low > next) rest.push([next, low - 1]);
    next = high + 1;
  }
  if (next <= 0x10ffff) rest.push([next, 0x10ffff]);
  return intersection(rest, allCharacters);
}

/** Returns one character of the set, as its bytes. */
export function* oneOfCharacters(of: Characters): Steps<Expression> {
  const ranges: Range[][] = [];
  for (const [low, high] of of) {
    // Each range becomes several ranges of bytes.
    spend(8);
    ranges.push(...byteRanges(low, high));
    if (isPauseDue()) yield;
  }
  return alternatives(ranges);
}

type Range = readonly [low: number, high: number];

/** Joins sequences of ranges that begin alike, so that a step has few alternatives. */
function alternatives(sequences: readonly (readonly Range[])[]): Expression {
  const groups = new Map<string, (readonly Range[])[]>();
  for (const one of sequences) {
    const key = one[0]!.join();
    const group = groups.get(key);
    if (group) group.push(one);
    else groups.set(key, [one]);
  }
  return choiceOf(
    [...groups.values()].map((group) => {
      const first = byte(...group[0]![0]!);
      return group[0]!.length === 1 ? first : sequence(first, alternatives(group.map((one) => one.slice(1))));
    }),
  );
}

const lengths = [0x7f, 0x7ff, 0xffff, 0x10ffff];

/** Returns sequences of ranges of bytes that together match the code points from `low` to `high`. */
function byteRanges(low: number, high: number): Range[][] {
  for (const most of lengths)
    if (low <= most && high > most) return [...byteRanges(low, most), ...byteRanges(most + 1, high)];
  const size = lengths.findIndex((most) => high <= most) + 1;
  if (size === 1) return [[[low, high]]];
  // The ranges of all bytes but the first have to be whole, or the first ones equal.
  for (let i = 1; i < size; i++) {
    const rest = 2 ** (6 * i) - 1;
    if ((low & ~rest) === (high & ~rest)) continue;
    if ((low & rest) !== 0) return [...byteRanges(low, low | rest), ...byteRanges((low | rest) + 1, high)];
    if ((high & rest) !== rest) return [...byteRanges(low, (high & ~rest) - 1), ...byteRanges(high & ~rest, high)];
  }
  const [first, last] = [utf8(low, size), utf8(high, size)];
  return [first.map((one, i) => [one, last[i]!])];
}

function utf8(point: number, size: number): number[] {
  const marks = [0, 0, 0xc0, 0xe0, 0xf0];
  return Array.from({ length: size }, (_, i) => {
    const bits = point >> (6 * (size - 1 - i));
    return i === 0 ? marks[size]! | bits : 0x80 | (bits & 0x3f);
  });
}
