/** Yields what several generators yield, as it comes. It reads at most one value ahead of its reader from each. */
export async function* merge<T>(sources: readonly AsyncGenerator<T, void, undefined>[]): AsyncGenerator<T, void> {
  const next = async (source: AsyncGenerator<T, void, undefined>) => ({ source, result: await source.next() });
  const pending = new Map(sources.map((source) => [source, next(source)]));
  try {
    while (pending.size > 0) {
      const { source, result } = await Promise.race(pending.values());
      // What comes last in the map is looked at last, so each source has its turn.
      pending.delete(source);
      if (!result.done) {
        pending.set(source, next(source));
        yield result.value;
      }
    }
  } finally {
    // If one of them has failed, or the reader has left, nobody waits for the others.
    for (const [source, value] of pending) {
      value.catch(() => undefined);
      source.return().catch(() => undefined);
    }
  }
}
