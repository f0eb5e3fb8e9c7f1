// Hashes of all parts of a text, each in constant time (Karp & Rabin 1987): which parts of a long token are tokens is found
// without making the parts.

/** Two primes whose products numbers hold exactly: together a hash of 52 bits. */
const primes = [2 ** 26 - 5, 2 ** 26 - 27] as const;
/** Drawn anew in each process, so that no file can be made of texts that collide. */
const bases = primes.map((prime) => 2 ** 16 + Math.floor(Math.random() * (prime - 2 ** 17))) as [number, number];

export class TextHashes {
  readonly #powers: readonly [Int32Array, Int32Array];
  /** Hashes of the text's beginnings. */
  readonly #prefixes: readonly [Int32Array, Int32Array];

  /** Prepares for texts of at most `longest` UTF-16 units. */
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

  /** Makes `text` the one whose parts are asked for. */
  load(text: string): this {
    for (const which of [0, 1] as const) {
      const prefixes = this.#prefixes[which];
      for (let i = 0; i < text.length; i++)
        prefixes[i + 1] = (prefixes[i]! * bases[which] + text.charCodeAt(i)) % primes[which];
    }
    return this;
  }

  /** The hash of the text from `from` to `to`. */
  of(from: number, to: number): number {
    return this.#part(0, from, to) * primes[1] + this.#part(1, from, to);
  }

  #part(which: 0 | 1, from: number, to: number): number {
    const prefixes = this.#prefixes[which];
    const before = (prefixes[from]! * this.#powers[which][to - from]!) % primes[which];
    return (prefixes[to]! - before + primes[which]) % primes[which];
  }
}
