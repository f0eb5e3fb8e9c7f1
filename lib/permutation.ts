// A pseudorandom permutation of [0, n) that needs no memory: position i of the order is computed, not looked up, so
// that shuffling a corpus costs nothing and training resumes anywhere. A Feistel network (Luby and Rackoff 1988) permutes
// the smallest even number of bits that holds n; results of n or more are permuted again until they fall below it
// (cycle walking, Black and Rogaway 2002), four times on average at most.
import { hash } from "./hash.js";

const rounds = 8;

/** Where position `i` of the shuffled [0, n) points, under a seed and an epoch. */
export class Permutation {
  private readonly half: number;
  private readonly keys: readonly number[];

  /** `n` from 1 to 2^52. */
  constructor(
    private readonly n: number,
    seed: number,
    epoch: number,
  ) {
    this.half = 2 ** Math.ceil(Math.log2(n) / 2);
    const key = [seed, seed / 2 ** 32, epoch, epoch / 2 ** 32].reduce(hash, 0);
    this.keys = Array.from({ length: rounds }, (_, round) => hash(key, round));
  }

  at(i: number): number {
    do i = this.permute(i);
    while (i >= this.n);
    return i;
  }

  private permute(i: number): number {
    let left = Math.floor(i / this.half);
    let right = i % this.half;
    // `half` is a power of two of at most 2^26: the remainder takes the low bits of the hash.
    for (const key of this.keys) [left, right] = [right, (left ^ hash(key, right)) & (this.half - 1)];
    return left * this.half + right;
  }
}
