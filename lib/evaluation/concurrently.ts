import { setMaxListeners } from "node:events";

/**
 * Resolves to the results of a function for each item, in order. At most `most` calls run at the same time. If one
 * fails, the signal that the others get aborts, and the promise rejects when they have ended.
 */
export async function concurrently<T, R>(
  items: readonly T[],
  most: number,
  call: (item: T, index: number, signal: AbortSignal) => Promise<R>,
  given?: AbortSignal,
): Promise<R[]> {
  const failed = new AbortController();
  const signal = given ? AbortSignal.any([given, failed.signal]) : failed.signal;
  // Each call listens to the signal, and Node.js takes more than ten listeners for a leak.
  setMaxListeners(0, signal);
  const results = Array<R>(items.length);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < items.length && !signal.aborted) {
      const index = next++;
      results[index] = await call(items[index]!, index, signal);
    }
  };
  const worker = (): Promise<void> =>
    work().catch((error: unknown) => {
      failed.abort(error);
      throw error;
    });
  await Promise.allSettled(Array.from({ length: Math.min(most, items.length) }, worker));
  given?.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
  return results;
}
