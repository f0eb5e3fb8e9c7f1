/**
 * Yields the values of several generators as they come, each in its turn. It throws the first error of one of them. It
 * reads at most one value ahead of its reader from each.
 */
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
