/** State of a `Best`. */
export interface BestState {
  /** Lowest loss of an evaluation. */
  loss: number;
  /** Step of that evaluation. */
  step: number;
  /** Number of evaluations since, none of which was better. */
  waited: number;
}

/** The best evaluation of a run, and whether the run has waited long enough for a better one. */
export class Best {
  readonly #patience: number;
  readonly #least: number;
  /** Best evaluation; null before the first. */
  state: BestState | null;

  constructor({ patience, least }: { patience: number; least: number }, before: BestState | null) {
    [this.#patience, this.#least] = [patience, least];
    this.state = before;
  }

  /** True if the run is to end, because too many evaluations in a row were not better. */
  get stops(): boolean {
    return (this.state?.waited ?? 0) >= this.#patience;
  }

  /** Notes an evaluation. Returns true if it is the best so far. */
  note(loss: number, step: number): boolean {
    // A run that had ended is evaluated again, which does not count twice.
    if (this.state?.step === step) return false;
    const better = !this.state || loss < this.state.loss - this.#least;
    if (better) this.state = { loss, step, waited: 0 };
    else this.state = { ...this.state!, waited: this.state!.waited + 1 };
    return better;
  }
}
