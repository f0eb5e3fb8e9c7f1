/**
 * Returns a promise with the same result, which rejects with the signal's reason as soon as the signal aborts. If
 * nobody awaits it because another error was thrown first, its rejection still counts as handled.
 */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const result = signal ? race(promise, signal) : promise;
  result.catch(() => undefined);
  return result;
}

function race<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    // A reason may be any value, as in the DOM.
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
    void promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
