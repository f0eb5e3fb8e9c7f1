/** How much a step counts beside all before it. */
const weight = 0.05;

/** The time of a run: what it has taken, over all sessions, and how fast its steps are. */
export class Pace {
  readonly #tokens: number;
  #before: number;
  #started: number | null = null;
  #last = 0;
  /** Exponentially smoothed duration of a step, and the sum of its weights. */
  #sum = 0;
  #weights = 0;

  /** @param tokens a step takes */
  constructor(secondsBefore: number, tokens: number) {
    this.#before = secondsBefore;
    this.#tokens = tokens;
  }

  /** Seconds of all sessions. */
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

  /** After a pause that is not to count as part of a step. */
  restart(): void {
    this.#last = now();
  }

  /** A step is done. */
  tick(): { secondsPerStep: number; tokensPerSecond: number } {
    const time = now();
    this.#sum += weight * (time - this.#last - this.#sum);
    this.#weights += weight * (1 - this.#weights);
    this.#last = time;
    const secondsPerStep = this.#sum / this.#weights;
    return { secondsPerStep, tokensPerSecond: this.#tokens / secondsPerStep };
  }
}

function now(): number {
  return performance.now() / 1000;
}
