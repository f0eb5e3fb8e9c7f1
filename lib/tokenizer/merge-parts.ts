// The algorithm that all byte-pair encodings share (Sennrich et al. 2016, arXiv:1508.07909): among all pairs of
// neighbouring parts, the pair whose union has the lowest rank is merged, the leftmost first, until no union has a
// rank. Parts form a linked list and candidates a heap, so that a long piece (a page without a space) takes n log n
// steps instead of n².
import type { Steps } from "../util/turns.js";

/**
 * The rules by which parts of a piece merge. A part is named by the index of its first symbol. The second part of a
 * pair ends before `end`.
 */
export interface Unions {
  /** Returns the rank of the union of two neighbours, an integer from 0 to 2^24 - 1, or -1 if they do not merge. */
  rank(first: number, second: number, end: number): number;
  /** Merges two neighbours into one part, which is named by `first`. */
  join?(first: number, second: number, end: number): void;
}

/** Number of indices that fit beside a rank in one number. JavaScript's strings have fewer than 2^29 UTF-16 units. */
const indices = 2 ** 29;
/** Maximum number of merges, so that their ranks fit. */
export const mostRanks = 2 ** 24;
/** Number of steps between two yields; they take about a tenth of a millisecond. */
const stride = 1024;

/** Merges `length` symbols. Returns for each part the index of the next part, or `length` for the last one. */
export function* mergeParts(length: number, unions: Unions): Steps<Int32Array> {
  const next = new Int32Array(length);
  const previous = new Int32Array(length + 1);
  /** The rank of each part's union with the next part; -1 if they do not merge. */
  const ranks = new Int32Array(length).fill(-1);
  for (let i = 0; i < length; i++) {
    next[i] = i + 1;
    previous[i + 1] = i;
    if (i % 65_536 === 65_535) yield;
  }
  const heap = new Heap(2 * length);
  const consider = (first: number): void => {
    const second = next[first]!;
    const rank = second < length ? unions.rank(first, second, next[second]!) : -1;
    ranks[first] = rank;
    if (rank >= 0) heap.push(rank * indices + first);
  };
  for (let i = 0; i < length; i++) {
    consider(i);
    if (i % stride === stride - 1) yield;
  }
  for (let step = 1; heap.size > 0; step++) {
    if (step % stride === 0) yield;
    const key = heap.pop();
    const rank = Math.floor(key / indices);
    const first = key - rank * indices;
    // A pair that has changed since it was pushed is still in the heap. Its rank differs, so it is skipped.
    if (ranks[first] !== rank) continue;
    const second = next[first]!;
    const end = next[second]!;
    unions.join?.(first, second, end);
    ranks[second] = -1;
    next[first] = end;
    previous[end] = first;
    consider(first);
    if (first > 0) consider(previous[first]!);
  }
  return next;
}

/** A binary heap of numbers, from which the smallest is taken first. */
class Heap {
  size = 0;
  readonly #keys: Float64Array;

  constructor(most: number) {
    this.#keys = new Float64Array(most);
  }

  push(key: number): void {
    const keys = this.#keys;
    let i = this.size++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[i] = keys[parent]!;
      i = parent;
    }
    keys[i] = key;
  }

  /** Removes and returns the smallest key. The heap must not be empty. */
  pop(): number {
    const keys = this.#keys;
    const smallest = keys[0]!;
    const n = --this.size;
    const last = keys[n]!;
    let i = 0;
    for (let child = 1; child < n; child = 2 * i + 1) {
      if (child + 1 < n && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= last) break;
      keys[i] = keys[child]!;
      i = child;
    }
    keys[i] = last;
    return smallest;
  }
}
