/** Values that come one after the other, and that a reader can leave early. */
export interface Source<T> {
  next(): Promise<IteratorResult<T, void>>;
  return(): Promise<unknown>;
}

/**
 * Yields the values of several sources, such as async generators, as they come, each in its turn. It throws the first
 * error of one of them. It reads at most one value ahead of its reader from each.
 */
export async function* merge<T>(generators: readonly Source<T>[]): AsyncGenerator<T, void, undefined> {
  type Step = readonly [generator: Source<T>, result: IteratorResult<T, void>];
  const next = (generator: Source<T>): Promise<Step> => {
    const step = generator.next().then((result) => [generator, result] as const);
    // If another generator fails, or the caller leaves early, nobody reads this, so its rejection counts as handled.
    step.catch(() => undefined);
    return step;
  };
  const pending = new Map(generators.map((generator) => [generator, next(generator)]));
  try {
    while (pending.size > 0) {
      const [generator, { value, done }] = await Promise.race(pending.values());
      // What comes last in the map is looked at last, so each generator has its turn.
      pending.delete(generator);
      if (done) continue;
      pending.set(generator, next(generator));
      yield value;
    }
  } finally {
    for (const generator of pending.keys()) void generator.return().catch(() => undefined);
  }
}
