// Python's random.Random, as far as lm-evaluation-harness draws examples with it: the Mersenne Twister MT19937 (Matsumoto
// and Nishimura 1998), seeded with an integer as `init_by_array` does it, and `sample`.

const words = 624;
const shift = 397;

/** Returns the low 32 bits of a product of two integers of 32 bits. */
const product = (a: number, b: number): number => Math.imul(a, b) >>> 0;

/** Random numbers of Python's `random.Random(seed)`. */
export class PythonRandom {
  readonly #state = new Uint32Array(words);
  #next = words;

  /** Seeds the generator; `seed` is an integer from 0 to 2^53 - 1. */
  constructor(seed: number) {
    const key = seed < 2 ** 32 ? [seed] : [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
    const state = this.#state;
    state[0] = 19_650_218;
    for (let i = 1; i < words; i++) state[i] = product(1_812_433_253, mixed(state[i - 1]!)) + i;
    let i = 1;
    const advance = (): void => {
      if (++i < words) return;
      state[0] = state[words - 1]!;
      i = 1;
    };
    for (let k = 0, j = 0; k < words; k++, j = (j + 1) % key.length) {
      state[i] = (state[i]! ^ product(mixed(state[i - 1]!), 1_664_525)) + key[j]! + j;
      advance();
    }
    for (let k = 1; k < words; k++) {
      state[i] = (state[i]! ^ product(mixed(state[i - 1]!), 1_566_083_941)) - i;
      advance();
    }
    state[0] = 0x8000_0000;
  }

  /** Returns `count` of `items` in the order in which Python's `sample` draws them; `count` is at most their number. */
  sample<T>(items: readonly T[], count: number): T[] {
    const n = items.length;
    const chosen: T[] = [];
    // A small pool is shuffled, and from a large one indices are drawn until they are new.
    const setSize = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
    if (n <= setSize) {
      const pool = [...items];
      for (let i = 0; i < count; i++) {
        const at = this.#below(n - i);
        chosen.push(pool[at]!);
        pool[at] = pool[n - i - 1]!;
      }
      return chosen;
    }
    const seen = new Set<number>();
    while (chosen.length < count) {
      const at = this.#below(n);
      if (seen.has(at)) continue;
      seen.add(at);
      chosen.push(items[at]!);
    }
    return chosen;
  }

  /** Returns an integer from 0 to n - 1; n is from 1 to 2^32 - 1. */
  #below(n: number): number {
    const bits = 32 - Math.clz32(n);
    for (;;) {
      const drawn = this.#word() >>> (32 - bits);
      if (drawn < n) return drawn;
    }
  }

  /** Returns the next 32 random bits. */
  #word(): number {
    if (this.#next === words) this.#renew();
    let y = this.#state[this.#next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #renew(): void {
    const state = this.#state;
    for (let i = 0; i < words; i++) {
      const y = (state[i]! & 0x8000_0000) | (state[(i + 1) % words]! & 0x7fff_ffff);
      state[i] = state[(i + shift) % words]! ^ (y >>> 1) ^ (y & 1 ? 0x9908_b0df : 0);
    }
    this.#next = 0;
  }
}

function mixed(word: number): number {
  return (word ^ (word >>> 30)) >>> 0;
}
