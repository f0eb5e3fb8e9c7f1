// A limit of the requests to a model that has no engine.
import { busy } from "./api-error.js";

/** Counts functions that run. */
export class Limit {
  #running = 0;

  constructor(
    /** Largest number of functions that run at the same time. */
    private readonly most: number,
  ) {}

  /** Resolves to what `body` resolves to. Rejects at once if too many run. */
  async run<T>(body: () => Promise<T>): Promise<T> {
    if (this.#running >= this.most) throw busy(1);
    this.#running++;
    try {
      return await body();
    } finally {
      this.#running--;
    }
  }
}
