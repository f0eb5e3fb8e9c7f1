// Work that takes turns.
import { busy } from "./api-error.js";

/** Runs functions one after the other. */
export class Queue {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(
    /** Largest number of functions that wait or run. */
    private readonly most: number,
  ) {}

  /** Resolves to what `body` resolves to, when those before it are done. Rejects at once if too many wait. */
  async run<T>(body: () => Promise<T>): Promise<T> {
    if (this.#waiting >= this.most) throw busy(1);
    this.#waiting++;
    const result = this.#last.then(body, body);
    this.#last = result;
    return result.finally(() => this.#waiting--);
  }
}
