// chrF (Popović 2015) as sacreBLEU computes it by default: n-grams of up to six characters, white space left out, F2, one
// corpus at a time.
import { countsOf, overlapOf, totalOf } from "./counts.js";

/** Longest n-gram that counts. */
const order = 6;
/** Weight of recall beside precision, squared. */
const factor = 4;

/** Counts of a segment for n-grams of one length. */
export interface ChrfCounts {
  /** Number of the text's n-grams. */
  text: number;
  /** Number of the reference's n-grams. */
  reference: number;
  /** Number of n-grams that both have. */
  matches: number;
}

/**
 * Returns the chrF of a corpus, from 0 to 100. Each text has one or more references; the one that is most like it
 * counts.
 *
 * @example
 * chrf(["the white whale"], [["the white whale"]]); // 100
 *
 * @see https://aclanthology.org/W15-3049
 */
export function chrf(texts: readonly string[], references: readonly (readonly string[])[]): number {
  return chrfOf(texts.map((text, i) => chrfCounts(text, references[i]!)));
}

/** Returns the counts of one segment, for n from 1 to 6. */
export function chrfCounts(text: string, references: readonly string[]): ChrfCounts[] {
  const own = ngramCounts(text);
  let best: ChrfCounts[] = [];
  let most = -1;
  for (const reference of references) {
    const counts = ngramCounts(reference).map((other, i) => ({
      // What the reference is too short for is not held against the text.
      text: other.size > 0 ? totalOf(own[i]!) : 0,
      reference: totalOf(other),
      matches: overlapOf(own[i]!, other),
    }));
    const score = fScore(counts);
    if (score > most) [best, most] = [counts, score];
  }
  return best;
}

/** Returns the chrF of a corpus, from 0 to 100, for the counts of its segments. */
export function chrfOf(segments: readonly (readonly ChrfCounts[])[]): number {
  const sums = Array.from({ length: order }, (_, i) => {
    const total = { text: 0, reference: 0, matches: 0 };
    for (const segment of segments) {
      total.text += segment[i]!.text;
      total.reference += segment[i]!.reference;
      total.matches += segment[i]!.matches;
    }
    return total;
  });
  return 100 * fScore(sums);
}

/** Returns F2 of the mean precision and the mean recall over the lengths that both texts have n-grams of. */
function fScore(counts: readonly ChrfCounts[]): number {
  const both = counts.filter(({ text, reference }) => text > 0 && reference > 0);
  if (both.length === 0) return 0;
  const mean = (of: (one: ChrfCounts) => number): number => both.reduce((sum, one) => sum + of(one), 0) / both.length;
  const precision = mean(({ text, matches }) => matches / text);
  const recall = mean(({ reference, matches }) => matches / reference);
  if (precision + recall === 0) return 0;
  return ((1 + factor) * precision * recall) / (factor * precision + recall);
}

function ngramCounts(text: string): Map<string, number>[] {
  const characters = Array.from(text.replaceAll(/\s+/g, ""));
  return Array.from({ length: order }, (_, i) => {
    const n = i + 1;
    const count = Math.max(0, characters.length - n + 1);
    return countsOf(Array.from({ length: count }, (_, at) => characters.slice(at, at + n).join("")));
  });
}
