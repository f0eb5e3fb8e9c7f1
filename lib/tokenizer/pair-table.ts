// A hash table of pairs of integers with linear probing, in typed arrays: beside a Map it makes no objects for the garbage
// collector to follow, and never grows, which for a large Map takes tens of milliseconds at once.

/** Odd factors of the hash, drawn anew in each process, so that no file can be made of pairs that collide. */
const [leftFactor, rightFactor] = Array.from({ length: 2 }, () => Math.floor(Math.random() * 2 ** 32) | 1) as [
  number,
  number,
];

/** An integer from 0 for each of the pairs of integers from 0 that are set. */
export class PairTable {
  /** The left integers plus one; 0 where a slot is empty. */
  readonly #lefts: Int32Array;
  readonly #rights: Int32Array;
  readonly #values: Int32Array;
  readonly #shift: number;

  /** Prepares for at most `most` pairs. */
  constructor(most: number) {
    const bits = Math.max(4, Math.ceil(Math.log2(1.5 * most + 1)));
    this.#shift = 32 - bits;
    const table = (): Int32Array => new Int32Array(2 ** bits);
    [this.#lefts, this.#rights, this.#values] = [table(), table(), table()];
  }

  /** Returns the pair's integer, or -1 where it has none. */
  get(left: number, right: number): number {
    const slot = this.#slot(left, right);
    return this.#lefts[slot] === 0 ? -1 : this.#values[slot]!;
  }

  set(left: number, right: number, value: number): void {
    const slot = this.#slot(left, right);
    this.#lefts[slot] = left + 1;
    this.#rights[slot] = right;
    this.#values[slot] = value;
  }

  /** The slot of a pair, or the empty one that it would have. */
  #slot(left: number, right: number): number {
    const [lefts, rights] = [this.#lefts, this.#rights];
    let slot = (Math.imul(left, leftFactor) + Math.imul(right, rightFactor)) >>> this.#shift;
    while (lefts[slot] !== 0 && (lefts[slot] !== left + 1 || rights[slot] !== right))
      slot = (slot + 1) & (lefts.length - 1);
    return slot;
  }
}
