// The body of an answer that is sent event by event.
import { Readable } from "node:stream";

/**
 * Stream of the texts of an iterator, which is asked for the next text only when the reader has taken the ones before.
 * `Readable.from` does the same, with an async function around the iterator that costs each text more than its reading.
 */
export class EventBody extends Readable {
  readonly #lines: AsyncIterator<string, void>;
  /** True while the iterator is asked for a text. */
  #asks = false;

  constructor(lines: AsyncIterator<string, void>) {
    super({ highWaterMark: 1 });
    this.#lines = lines;
  }

  override _read(): void {
    if (this.#asks) return;
    this.#asks = true;
    this.#lines.next().then(this.#take, this.#fail);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const end = (cause?: unknown): void => callback(error ?? (cause as Error | undefined) ?? null);
    Promise.resolve(this.#lines.return?.()).then(() => end(), end);
  }

  readonly #take = ({ done, value }: IteratorResult<string, void>): void => {
    this.#asks = false;
    if (done) this.push(null);
    else if (this.push(value) && !this.destroyed) this._read();
  };

  readonly #fail = (error: unknown): void => {
    this.destroy(error as Error);
  };
}
