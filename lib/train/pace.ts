/** Weight of the newest step in the smoothed duration. */
const weight = 0.05;

/** Clock of a run: the seconds that it has taken over all sessions, and the speed of its steps. */
export class Pace {
  #before: number;
  #started: number | null = null;
  #last = 0;
  /** Exponentially smoothed duration of a step, not yet divided by `#weights`, the sum of its weights. */
  #sum = 0;
  #weights = 0;
  /** Exponentially smoothed number of tokens in a step, not yet divided by `#weights`. */
  #tokens = 0;

  /** @param secondsBefore seconds of earlier sessions */
  constructor(secondsBefore: number) {
    this.#before = secondsBefore;
  }

  /** Seconds that the run has taken, over all sessions. */
  get seconds(): number {
    return this.#before + (this.#started === null ? 0 : now() - this.#started);
  }

  start(): void {
    this.#started = this.#last = now();
  }

  stop(): void {
    this.#before = this.seconds;
    this.#started = null;
  }

  /** Begins to time the next step, after a pause that must not count as part of it. */
  restart(): void {
    this.#last = now();
  }

  /** Ends a step of this many tokens and returns the smoothed speed. */
  tick(tokens: number): { secondsPerStep: number; tokensPerSecond: number } {
    const time = now();
    this.#sum += weight * (time - this.#last - this.#sum);
    this.#tokens += weight * (tokens - this.#tokens);
    this.#weights += weight * (1 - this.#weights);
    this.#last = time;
    const secondsPerStep = this.#sum / this.#weights;
    return { secondsPerStep, tokensPerSecond: this.#tokens / this.#sum };
  }
}

function now(): number {
  return performance.now() / 1000;
}
