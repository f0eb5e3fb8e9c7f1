import { nextTurn, turnIsLong } from "../util/turns.js";

/** Values that come one after the other, and that a reader can leave early. */
export interface Source<T> {
  next(): Promise<IteratorResult<T, void>>;
  return(): Promise<unknown>;
}

/** Answer of a source that was asked for its next value. */
type Reply<T> = { readonly source: Source<T>; readonly result: IteratorResult<T, void> } | { readonly error: unknown };

/**
 * Yields the values of several sources, such as async generators, as they come, each in its turn. It throws the first
 * error of one of them. It reads at most one value ahead of its reader from each.
 *
 * Sources push their replies into a queue. `Promise.race` would leave a reaction behind in each promise that loses, so
 * that a source that waits for long would collect one for each value of the others.
 */
export async function* merge<T>(sources: readonly Source<T>[]): AsyncGenerator<T, void, undefined> {
  const open = new Set(sources);
  // Each source has at most one reply in the queue, and the earliest comes first, so each has its turn.
  const replies = new ReplyQueue<Reply<T>>();
  const ask = (source: Source<T>): void => {
    source.next().then(
      (result) => replies.push({ source, result }),
      (error: unknown) => replies.push({ error }),
    );
  };
  try {
    for (const source of sources) {
      // Beginning takes some work, for each of a thousand answers.
      if (turnIsLong()) await nextTurn();
      ask(source);
    }
    while (open.size > 0) {
      let reply = replies.take();
      if (!reply) {
        await replies.arrival();
        reply = replies.take()!;
      }
      if ("error" in reply) throw reply.error;
      const { source, result } = reply;
      if (result.done) open.delete(source);
      else {
        ask(source);
        yield result.value;
      }
    }
  } finally {
    for (const source of open) void source.return().catch(() => undefined);
  }
}

/** Values in the order in which they were pushed, and one reader. */
class ReplyQueue<T> {
  readonly #values: T[] = [];
  #wake: (() => void) | null = null;

  push(value: T): void {
    this.#values.push(value);
    this.#wake?.();
    this.#wake = null;
  }

  /** Removes and returns the first value; undefined if there is none. */
  take(): T | undefined {
    return this.#values.shift();
  }

  /** Resolves when a value is pushed. */
  arrival(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
