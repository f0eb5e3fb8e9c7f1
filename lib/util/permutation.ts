// A pseudorandom permutation of [0, n). For few items it is drawn with Fisher and Yates' shuffle (Durstenfeld 1964), so
// that all n! orders are equally likely. For many it needs no memory: each position is computed, not looked up, so that
// shuffling a corpus costs nothing and training can resume anywhere. A Feistel network (Luby and Rackoff 1988) permutes
// the numbers below the smallest power of four that is at least n. Results of n or more are permuted again until they
// are below n (cycle walking, Black and Rogaway 2002), on average at most four times. A network of few bits reaches only
// some of the orders, which is why few items are shuffled.
import { hash } from "./hash.js";

const rounds = 8;

/** Largest number of items that are shuffled in memory. */
const mostShuffled = 256;

/** Shuffled order of [0, n) for a seed and an epoch. */
export class Permutation {
  private readonly half: number;
  private readonly keys: readonly number[];
  /** The order, if it is kept in memory. */
  private readonly order: Uint16Array | null;

  /**
   * Makes the order; `n` is from 1 to 2^52. `version` 1 has the order of earlier checkpoints, in which few items are
   * permuted by the network too.
   */
  constructor(
    private readonly n: number,
    seed: number,
    epoch: number,
    version: OrderVersion = orderVersion,
  ) {
    this.half = 2 ** Math.ceil(Math.log2(n) / 2);
    const key = [seed, seed / 2 ** 32, epoch, epoch / 2 ** 32].reduce(hash, 0);
    this.keys = Array.from({ length: rounds }, (_, round) => hash(key, round));
    this.order = version > 1 && n <= mostShuffled ? shuffled(n, key) : null;
  }

  /** Returns the number at position `i`. */
  at(i: number): number {
    if (this.order) return this.order[i]!;
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

/** Version of the orders that permutations have; checkpoints and loaders say which one they count in. */
export type OrderVersion = 1 | 2;

/** Version of new orders. */
export const orderVersion: OrderVersion = 2;

/** Returns the text by which checkpoints and loaders recognise the order of a seed. That of version 1 is the seed alone. */
export function orderOf(seed: number, version: OrderVersion): string {
  return version === 1 ? `seed ${seed}` : `seed ${seed}, version ${version}`;
}

function shuffled(n: number, key: number): Uint16Array {
  const order = Uint16Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    // A number in [0, i] from 32 bits, each with probability 1/(i + 1) to within 2^-32.
    const j = Math.floor(((hash(key, i) >>> 0) / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
