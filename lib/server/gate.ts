/** Somebody who waits at a gate. */
interface Waiting {
  readonly places: number;
  readonly enter: () => void;
}

/** Lets as many in as there are places; the others wait, and enter in the order in which they came. */
export class Gate {
  readonly #waiting: Waiting[] = [];
  #free: number;

  constructor(
    /** Number of places. */
    private readonly places: number,
  ) {
    this.#free = places;
  }

  /** Waits for a number of places, or for all if it is larger, and resolves to a function that gives them back. */
  async enter(wanted = 1): Promise<() => void> {
    const places = Math.min(wanted, this.places);
    await new Promise<void>((enter) => {
      this.#waiting.push({ places, enter });
      this.#admit();
    });
    return () => {
      this.#free += places;
      this.#admit();
    };
  }

  #admit(): void {
    while (this.#waiting.length > 0 && this.#waiting[0]!.places <= this.#free) {
      const { places, enter } = this.#waiting.shift()!;
      this.#free -= places;
      enter();
    }
  }
}
