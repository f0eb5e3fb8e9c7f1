// A map from pairs of numbers to objects. JavaScript's own would need an object for each pair that does not fit 31 bits, and
// an automaton looks up hundreds of thousands of them.

/** A map whose keys are two integers from 0 to 2^31 - 1. */
export class PairMap<T> {
  #first = new Int32Array(64);
  #second = new Int32Array(64);
  #values: (T | undefined)[] = new Array<T | undefined>(64).fill(undefined);
  #size = 0;

  /** Number of pairs. */
  get size(): number {
    return this.#size;
  }

  /** Returns what belongs to a pair, or undefined. */
  get(first: number, second: number): T | undefined {
    return this.#values[this.#placeOf(first, second)];
  }

  /** Adds a pair, which must not be in the map. */
  add(first: number, second: number, value: T): void {
    if (2 * ++this.#size > this.#values.length) this.#grow();
    this.#put(first, second, value);
  }

  #put(first: number, second: number, value: T): void {
    const place = this.#placeOf(first, second);
    this.#first[place] = first;
    this.#second[place] = second;
    this.#values[place] = value;
  }

  /** Returns the place of a pair, or the free one where it belongs. */
  #placeOf(first: number, second: number): number {
    const mask = this.#values.length - 1;
    let hash = Math.imul(first, 0x9e3779b1) ^ Math.imul(second, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let place = hash & mask; ; place = (place + 1) & mask)
      if (this.#values[place] === undefined || (this.#first[place] === first && this.#second[place] === second))
        return place;
  }

  #grow(): void {
    const [first, second, values] = [this.#first, this.#second, this.#values];
    const length = 2 * values.length;
    [this.#first, this.#second] = [new Int32Array(length), new Int32Array(length)];
    this.#values = new Array<T | undefined>(length).fill(undefined);
    for (const [i, value] of values.entries()) if (value !== undefined) this.#put(first[i]!, second[i]!, value);
  }
}
