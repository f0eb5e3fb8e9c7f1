// A hash table of pairs of integers with linear probing, in typed arrays. In contrast to a Map it creates no objects
// for the garbage collector to follow, and it never grows: growing a large Map takes tens of milliseconds at once.

/**
 * Odd factors of the hash. They are drawn anew in each process, so that nobody can write a file of pairs that collide.
 */
const [leftFactor, rightFactor] = Array.from({ length: 2 }, () => Math.floor(Math.random() * 2 ** 32) | 1) as [
  number,
  number,
];

/** A map from pairs of integers to integers. All of them are at least 0. */
export class PairTable {
  /** The left integer of each slot plus one; 0 for an empty slot. */
  readonly #lefts: Int32Array;
  readonly #rights: Int32Array;
  readonly #values: Int32Array;
  readonly #shift: number;

  /** Creates an empty table for at most `most` pairs. */
  constructor(most: number) {
    const bits = Math.max(4, Math.ceil(Math.log2(1.5 * most + 1)));
    this.#shift = 32 - bits;
    const table = (): Int32Array => new Int32Array(2 ** bits);
    [this.#lefts, this.#rights, this.#values] = [table(), table(), table()];
  }

  /** Returns the integer of a pair, or -1 if it has none. */
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

  /** Returns the slot of a pair, or the empty slot where it would be stored. */
  #slot(left: number, right: number): number {
    const [lefts, rights] = [this.#lefts, this.#rights];
    let slot = (Math.imul(left, leftFactor) + Math.imul(right, rightFactor)) >>> this.#shift;
    while (lefts[slot] !== 0 && (lefts[slot] !== left + 1 || rights[slot] !== right))
      slot = (slot + 1) & (lefts.length - 1);
    return slot;
  }
}
