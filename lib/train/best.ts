/** State of a `Best`. */
export interface BestState {
  /** Lowest loss of an evaluation; null if none had a finite loss. */
  loss: number | null;
  /** Step of that evaluation. */
  step: number;
  /** Number of evaluations since the last improvement that early stopping counts. */
  waited: number;
  /** Loss of the last improvement that early stopping counts; null before the first. @default the lowest loss */
  counted?: number | null;
  /** Step of the last evaluation. @default that of the best one */
  last?: number;
}

/** The best evaluation of a run, and whether the run has waited long enough for an improvement. */
export class Best {
  readonly #patience: number;
  readonly #least: number;
  /** Best evaluation; null before the first. */
  state: BestState | null;

  /** `least` is the smallest fall of the loss that early stopping counts. What is best does not depend on it. */
  constructor({ patience, least }: { patience: number; least: number }, before: BestState | null) {
    [this.#patience, this.#least] = [patience, least];
    this.state = before;
  }

  /** True if the run is to end, because too many evaluations in a row brought no improvement. */
  get stops(): boolean {
    return (this.state?.waited ?? 0) >= this.#patience;
  }

  /** Notes an evaluation. Returns true if its loss is the lowest so far. One without targets has no loss to note. */
  note({ loss, tokens }: { loss: number; tokens: number }, step: number): boolean {
    if (tokens === 0) return false;
    const before = this.state ?? { loss: null, step, waited: 0 };
    const { counted = before.loss, last = before.step } = before;
    // A run that had ended is evaluated again, which does not count twice.
    if (this.state && last === step) return false;
    const finite = Number.isFinite(loss);
    const improves = finite && (counted === null || loss < counted - this.#least);
    const best = finite && (before.loss === null || loss < before.loss);
    this.state = {
      ...(best ? { loss, step } : { loss: before.loss, step: before.step }),
      waited: improves ? 0 : before.waited + 1,
      counted: improves ? loss : counted,
      last: step,
    };
    return best;
  }
}
