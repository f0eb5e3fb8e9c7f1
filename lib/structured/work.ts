// A limit to the work that a format may take. Formats may come from strangers and are read at once, on the JavaScript
// thread.
import { HeedError } from "../errors.js";

/** Most steps for a format, or for all tools of a request: they take about a tenth of a second. */
export const mostWork = 200_000;

/** Steps that are left to the format that is being read; null if none is. */
let left: number | null = null;

/**
 * Returns what `body` returns, and the number of steps that it has counted with `spend`. Within another call it counts for
 * that one.
 *
 * @throws ERR_ARGUMENT if there are too many steps, or the stack overflows.
 */
export function withinLimit<T>(body: () => T): { result: T; work: number } {
  const before = left ?? mostWork;
  const isOuter = left === null;
  left = before;
  try {
    const result = body();
    return { result, work: before - left };
  } catch (cause) {
    throw asFormatError(cause);
  } finally {
    if (isOuter) left = null;
  }
}

/** Returns the error of a format that is nested too deeply, for which the stack has overflowed; any other as it is. */
export function asFormatError(cause: unknown): unknown {
  if (!(cause instanceof RangeError)) return cause;
  const text = "format: expected parts that are nested less deeply, got too many levels";
  return new HeedError("ERR_ARGUMENT", text, { cause });
}

/** Counts steps: a step is a microsecond or less. */
export function spend(steps: number): void {
  if (left === null) return;
  left -= steps;
  if (left < 0)
    throw new HeedError("ERR_ARGUMENT", `format: expected one that is read in ${mostWork} steps, got a larger one`);
}
