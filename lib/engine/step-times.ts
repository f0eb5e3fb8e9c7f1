/** Number of latest times that count. */
const window = 5;
/** Number of times from which on they count. */
const least = 3;
/** Number of steps after which the times of a size are unknown again. */
const memory = 1000;

/** Times of steps of one size. */
interface SizeTimes {
  readonly times: readonly number[];
  /** Number of the step that was measured last. */
  readonly step: number;
}

/** The times that steps of different sizes take, as measured. What was measured long ago is forgotten. */
export class StepTimes {
  readonly #sizes = new Map<number, SizeTimes>();
  /** Returns the number of the current step. */
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Adds the time in milliseconds that a step of `size` tokens took. */
  add(size: number, time: number): void {
    const key = roundedSize(size);
    const times = [...(this.#known(key)?.times ?? []), time].slice(-window);
    this.#sizes.set(key, { times, step: this.#now() });
  }

  /** Returns the median of the latest times of steps of `size` tokens, or null if it is unknown. */
  at(size: number): number | null {
    const times = this.#known(roundedSize(size))?.times ?? [];
    return times.length < least ? null : times.toSorted((a, b) => a - b)[times.length >> 1]!;
  }

  /**
   * Returns the time of a step of `size` tokens. If it is unknown, it is estimated by the nearest smaller and larger
   * sizes, or by the smaller one alone: then it is too short, so that the size will be tried. `smallest` is a size whose
   * time is given.
   */
  estimate(size: number, smallest: readonly [size: number, time: number]): number {
    let [below, timeBelow] = smallest;
    let [above, timeAbove] = [Infinity, 0];
    const wanted = roundedSize(size);
    for (const key of this.#sizes.keys()) {
      const time = this.at(key);
      if (time === null) continue;
      if (key <= wanted && key >= below) [below, timeBelow] = [key, time];
      if (key >= wanted && key < above) [above, timeAbove] = [key, time];
    }
    if (above === Infinity || above <= below) return timeBelow;
    return timeBelow + ((timeAbove - timeBelow) * (wanted - below)) / (above - below);
  }

  #known(key: number): SizeTimes | undefined {
    const known = this.#sizes.get(key);
    return known && this.#now() - known.step < memory ? known : undefined;
  }
}

/** Returns a size rounded down to three significant bits, so that there are few sizes. */
function roundedSize(size: number): number {
  const unit = 2 ** Math.max(0, Math.floor(Math.log2(size)) - 2);
  return Math.floor(size / unit) * unit;
}
