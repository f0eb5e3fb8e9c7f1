// A pseudorandom permutation of [0, n) that needs no memory. Each position is computed, not looked up, so that
// shuffling a corpus costs nothing and training can resume anywhere. A Feistel network (Luby and Rackoff 1988) permutes
// the numbers below the smallest power of four that is at least n. Results of n or more are permuted again until they
// are below n (cycle walking, Black and Rogaway 2002), on average at most four times.
import { hash } from "./hash.js";

const rounds = 8;

/** Shuffled order of [0, n) for a seed and an epoch. */
export class Permutation {
  private readonly half: number;
  private readonly keys: readonly number[];

  /** Makes the order; `n` is from 1 to 2^52. */
  constructor(
    private readonly n: number,
    seed: number,
    epoch: number,
  ) {
    this.half = 2 ** Math.ceil(Math.log2(n) / 2);
    const key = [seed, seed / 2 ** 32, epoch, epoch / 2 ** 32].reduce(hash, 0);
    this.keys = Array.from({ length: rounds }, (_, round) => hash(key, round));
  }

  /** Returns the number at position `i`. */
  at(i: number): number {
    do i = this.permute(i);
    while (i >= this.n);
    return i;
  }

  private permute(i: number): number {
    let left = Math.floor(i / this.half);
    let right = i % this.half;
    // `half` is a power of two of at most 2^26, so that the mask takes the low bits of the hash.
    for (const key of this.keys) [left, right] = [right, (left ^ hash(key, right)) & (this.half - 1)];
    return left * this.half + right;
  }
}
