// BLEU (Papineni et al. 2002) as sacreBLEU computes it by default (Post 2018): words of up to four, cut as NIST's
// mteval-v13a does, with case, one corpus at a time, and with exponential smoothing (Chen and Cherry 2014, method 3).
import { countsOf, overlapOf, totalOf } from "./counts.js";

/** Longest n-gram that counts. */
const order = 4;

/** Counts of a segment from which the BLEU of a corpus is computed, all of which are summed over its segments. */
export interface BleuCounts {
  /** Number of words of the text. */
  length: number;
  /** Number of words of the reference whose number is closest to it. */
  referenceLength: number;
  /** Number of the text's n-grams that are in a reference, for n from 1 to 4. */
  matches: number[];
  /** Number of the text's n-grams, for n from 1 to 4. */
  totals: number[];
}

/**
 * Returns the BLEU of a corpus, from 0 to 100. Each text has one or more references.
 *
 * @example
 * bleu(["the white whale swims"], [["the white whale swims"]]); // 100
 *
 * @see https://aclanthology.org/P02-1040
 * @see https://aclanthology.org/W18-6319
 */
export function bleu(texts: readonly string[], references: readonly (readonly string[])[]): number {
  return bleuOf(texts.map((text, i) => bleuCounts(text, references[i]!)));
}

/** Returns the counts of one segment. */
export function bleuCounts(text: string, references: readonly string[]): BleuCounts {
  const words = cutWords(text);
  const others = references.map(cutWords);
  const distance = (length: number): number => Math.abs(length - words.length);
  const [referenceLength = 0] = others.map(({ length }) => length).sort((a, b) => distance(a) - distance(b) || a - b);
  const matches: number[] = [];
  const totals: number[] = [];
  for (let n = 1; n <= order; n++) {
    const own = countsOf(ngrams(words, n));
    // An n-gram matches as often as it occurs in the reference that has it most often.
    const most = new Map<string, number>();
    for (const other of others)
      for (const [ngram, count] of countsOf(ngrams(other, n))) most.set(ngram, Math.max(count, most.get(ngram) ?? 0));
    matches.push(overlapOf(own, most));
    totals.push(totalOf(own));
  }
  return { length: words.length, referenceLength, matches, totals };
}

/** Returns the BLEU of a corpus, from 0 to 100, for the counts of its segments. */
export function bleuOf(segments: readonly BleuCounts[]): number {
  const sum = (of: (counts: BleuCounts) => number): number => segments.reduce((total, one) => total + of(one), 0);
  const length = sum((one) => one.length);
  const referenceLength = sum((one) => one.referenceLength);
  const matches = Array.from({ length: order }, (_, i) => sum((one) => one.matches[i]!));
  const totals = Array.from({ length: order }, (_, i) => sum((one) => one.totals[i]!));
  if (matches.every((count) => count === 0) || totals.includes(0)) return 0;
  // Each order without a match gets half of what the one before it without a match got.
  let smoothing = 1;
  const precisions = matches.map((count, i) => (count > 0 ? count : 1 / (smoothing *= 2)) / totals[i]!);
  const mean = Math.exp(precisions.reduce((total, precision) => total + Math.log(precision), 0) / order);
  const brevity = length < referenceLength ? Math.exp(1 - referenceLength / length) : 1;
  return 100 * brevity * mean;
}

function* ngrams(words: readonly string[], n: number): Generator<string> {
  for (let i = 0; i + n <= words.length; i++) yield words.slice(i, i + n).join(" ");
}

/** Cuts a text into words and punctuation as mteval-v13a does. */
function cutWords(text: string): string[] {
  const entities: readonly (readonly [string, string])[] = [
    ["&quot;", '"'],
    ["&amp;", "&"],
    ["&lt;", "<"],
    ["&gt;", ">"],
  ];
  let line = text.replaceAll("<skipped>", "").replaceAll("-\n", "").replaceAll("\n", " ");
  for (const [entity, character] of entities) line = line.replaceAll(entity, character);
  return (
    ` ${line} `
      // Punctuation stands alone, except that a point and a comma belong to a number, and a hyphen only follows one.
      .replaceAll(/[{-~[-` -&(-+:-@/]/g, " $& ")
      .replaceAll(/([^0-9])([.,])/g, "$1 $2 ")
      .replaceAll(/([.,])([^0-9])/g, " $1 $2")
      .replaceAll(/([0-9])-/g, "$1 - ")
      .split(/\s+/)
      .filter((word) => word !== "")
  );
}
