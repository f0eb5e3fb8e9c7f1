// Hashes of all substrings of a text, each in constant time (Karp & Rabin 1987). They find out which parts of a long
// token are tokens, without creating the parts as strings.

/** Two primes below 2^26: a number holds the product of two residues exactly. Together they give a hash of 52 bits. */
const primes = [2 ** 26 - 5, 2 ** 26 - 27] as const;
/**
 * The bases of the hash. They are drawn anew in each process, so that nobody can write a file of texts that collide.
 */
const bases = primes.map((prime) => 2 ** 16 + Math.floor(Math.random() * (prime - 2 ** 17))) as [number, number];

/** The hashes of the substrings of the text that was loaded last. */
export class TextHashes {
  readonly #powers: readonly [Int32Array, Int32Array];
  /** Hashes of the prefixes of the text. */
  readonly #prefixes: readonly [Int32Array, Int32Array];

  /** Allocates tables for texts of at most `longest` UTF-16 units. */
  constructor(longest: number) {
    const table = (): Int32Array => new Int32Array(longest + 1);
    [this.#powers, this.#prefixes] = [
      [table(), table()],
      [table(), table()],
    ];
    for (const which of [0, 1] as const) {
      const powers = this.#powers[which];
      powers[0] = 1;
      for (let i = 0; i < longest; i++) powers[i + 1] = (powers[i]! * bases[which]) % primes[which];
    }
  }

  /** Computes the hashes of the prefixes of `text`, for `of`. */
  load(text: string): this {
    for (const which of [0, 1] as const) {
      const prefixes = this.#prefixes[which];
      for (let i = 0; i < text.length; i++)
        prefixes[i + 1] = (prefixes[i]! * bases[which] + text.charCodeAt(i)) % primes[which];
    }
    return this;
  }

  /** Returns the hash of the substring from `from` to `to`. */
  of(from: number, to: number): number {
    return this.#part(0, from, to) * primes[1] + this.#part(1, from, to);
  }

  #part(which: 0 | 1, from: number, to: number): number {
    const prefixes = this.#prefixes[which];
    const before = (prefixes[from]! * this.#powers[which][to - from]!) % primes[which];
    return (prefixes[to]! - before + primes[which]) % primes[which];
  }
}
