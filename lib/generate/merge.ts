/** Yields the values of several generators as they come. It throws the first error of one of them. */
export async function* merge<T>(
  generators: readonly AsyncGenerator<T, void, undefined>[],
): AsyncGenerator<T, void, undefined> {
  type Step = readonly [generator: AsyncGenerator<T, void, undefined>, result: IteratorResult<T, void>];
  const next = (generator: AsyncGenerator<T, void, undefined>): Promise<Step> => {
    const step = generator.next().then((result) => [generator, result] as const);
    // If another generator fails, or the caller leaves early, nobody reads this, so its rejection counts as handled.
    step.catch(() => undefined);
    return step;
  };
  const pending = new Map(generators.map((generator) => [generator, next(generator)]));
  try {
    while (pending.size > 0) {
      const [generator, { value, done }] = await Promise.race(pending.values());
      if (done) pending.delete(generator);
      else {
        pending.set(generator, next(generator));
        yield value;
      }
    }
  } finally {
    for (const generator of pending.keys()) void generator.return().catch(() => undefined);
  }
}
