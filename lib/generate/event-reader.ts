/** Begins events, and resolves to them. */
export type EventsOf<T> = () => Promise<AsyncGenerator<T, void, undefined>>;

/** An object that an `EventReader` tells about the events that it reads. */
export interface Listener<T> {
  event(value: T): void;
  /** Notes that all events have been read, or that the reader wants no more of them. */
  end(): void;
  error(error: unknown): void;
}

/**
 * Reads the events of a generator, and tells a listener about each of them first. It does what a generator around the
 * events would do, which would cost each event some more microtasks.
 */
export class EventReader<T> implements AsyncGenerator<T, void, undefined> {
  readonly #begin: EventsOf<T>;
  readonly #listener: Listener<T>;
  #begun: Promise<AsyncGenerator<T, void, undefined>> | null = null;
  /** The generator once it is there. */
  #events: AsyncGenerator<T, void, undefined> | null = null;
  #closed = false;
  #told = false;

  constructor(begin: EventsOf<T>, listener: Listener<T>) {
    this.#begin = begin;
    this.#listener = listener;
  }

  next(): Promise<IteratorResult<T, void>> {
    if (this.#closed) return Promise.resolve({ done: true, value: undefined });
    return (this.#events?.next() ?? this.#first()).then(this.#note, this.#fail);
  }

  async return(): Promise<IteratorResult<T, void>> {
    const events = await this.#close();
    try {
      await events?.return();
    } catch (error) {
      return this.#fail(error);
    }
    if (events) this.#tell(() => this.#listener.end());
    return { done: true, value: undefined };
  }

  async throw(error: unknown): Promise<IteratorResult<T, void>> {
    const events = await this.#close();
    await events?.return();
    if (events) this.#tell(() => this.#listener.error(error));
    throw error;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** Resolves to the generator if it has begun and was not closed before; a read gets the error if it cannot begin. */
  async #close(): Promise<AsyncGenerator<T, void, undefined> | null> {
    const closed = this.#closed;
    this.#closed = true;
    return closed || !this.#begun ? null : await this.#begun.catch(() => null);
  }

  /** Reads an event before the generator is there. Later reads go past this once its event is there, so none overtakes it. */
  async #first(): Promise<IteratorResult<T, void>> {
    const events = await (this.#begun ??= this.#begin());
    const result = await events.next();
    this.#events = events;
    return result;
  }

  readonly #note = (result: IteratorResult<T, void>): IteratorResult<T, void> => {
    if (result.done) {
      this.#closed = true;
      this.#tell(() => this.#listener.end());
    } else this.#listener.event(result.value);
    return result;
  };

  readonly #fail = (error: unknown): IteratorResult<T, void> => {
    // Of several reads that wait for the generator, only the first one gets the error.
    if (this.#told) return { done: true, value: undefined };
    this.#closed = true;
    this.#tell(() => this.#listener.error(error));
    throw error;
  };

  /** Tells the listener how the events ended, once. */
  #tell(how: () => void): void {
    if (!this.#told) how();
    this.#told = true;
  }
}
