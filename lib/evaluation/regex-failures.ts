// What has failed in a text: the choices of an expression that have been tried at a place without leading to a match. See
// Davis, Servant and Lee, "Using Selective Memoization to Defeat Regular Expression Denial of Service" (2021).

/** Loop on whose state a failure depends: how many iterations there were, and whether the last one is empty so far. */
export interface LoopState {
  /** Slot of the number of iterations; the next one has the place at which the last iteration began. */
  readonly slot: number;
  /** Number of iterations from which on more make no difference. */
  readonly most: number;
  readonly mayBeEmpty: boolean;
}

/** Largest number of bits that are kept as such, and of failures that are kept otherwise. */
const [mostBits, mostKept] = [2 ** 28, 2 ** 22];

/** Failures of the choices of one expression in one text. */
export class Failures {
  /** Bits of all places and states, if there are not too many. */
  readonly #bits: Uint32Array | null;
  readonly #kept = new Set<number>();
  #marked: number[] = [];

  private constructor(
    private readonly choices: readonly (readonly LoopState[])[],
    private readonly places: number,
    private readonly states: number,
    few: boolean,
  ) {
    const bits = choices.length * places * states;
    this.#bits = bits <= mostBits && !few ? new Uint32Array(Math.ceil(bits / 32)) : null;
  }

  /**
   * Returns an empty set of failures; null if the choices have too many states to tell them apart by a number. It takes no
   * memory for places that are not tried if it is to be made for `few`.
   */
  static of(
    choices: readonly (readonly LoopState[])[],
    length: number,
    { few = false }: { few?: boolean } = {},
  ): Failures | null {
    const states = Math.max(
      1,
      ...choices.map((loops) =>
        loops.reduce((all, { most, mayBeEmpty }) => all * (most + 1) * (mayBeEmpty ? 2 : 1), 1),
      ),
    );
    const all = choices.length * (length + 1) * states;
    return choices.length > 0 && Number.isSafeInteger(all) ? new Failures(choices, length + 1, states, few) : null;
  }

  /** Notes that a choice is tried at a place. Returns false if it was tried there before, in the same state. */
  add(choice: number, at: number, slots: Int32Array): boolean {
    let state = 0;
    for (const { slot, most, mayBeEmpty } of this.choices[choice]!) {
      state = state * (most + 1) + Math.min(slots[slot]!, most);
      if (mayBeEmpty) state = 2 * state + Number(slots[slot + 1] === at);
    }
    const key = (choice * this.places + at) * this.states + state;
    if (!this.#bits) {
      if (this.#kept.has(key)) return false;
      if (this.#kept.size < mostKept) this.#kept.add(key);
      return true;
    }
    const [word, bit] = [Math.floor(key / 32), 1 << (key % 32)];
    if ((this.#bits[word]! & bit) !== 0) return false;
    this.#bits[word]! |= bit;
    this.#marked.push(word);
    return true;
  }

  /** Forgets all failures. */
  clear(): void {
    for (const word of this.#marked) this.#bits![word] = 0;
    this.#marked = [];
    this.#kept.clear();
  }
}
