// A limit to the work that a format may take. Formats may come from strangers. They are read on the JavaScript thread, by
// generators that yield wherever enough steps have been counted since the last pause.
import { HeedError } from "../util/errors.js";
import { atOnce, type Steps } from "../util/turns.js";

/** Most steps for a format, or for all tools of a request: they take about a tenth of a second. */
export const mostWork = 200_000;

/** Steps after which a reader pauses where it can, and most steps of a part in which it cannot. */
const stepsBetweenPauses = 500;
const mostAtOnce = 25_000;

/** Steps that are left to the format that is being read in this turn; null if none is. */
let left: number | null = null;
/** Steps since the last pause. */
let counted = 0;
/** False within what cannot pause. */
let mayPause = true;

/**
 * Returns what `body` returns, and the number of steps that it has counted with `spend`. Within another call it counts for
 * that one.
 *
 * @throws ERR_ARGUMENT if there are too many steps, or the stack overflows.
 */
export function* withinLimit<T>(body: Steps<T>): Steps<{ result: T; work: number }> {
  if (left !== null) {
    const before = left;
    const result = yield* body;
    return { result, work: before - left };
  }
  for (let own = mostWork; ;) {
    [left, counted] = [own, 0];
    try {
      const step = body.next();
      own = left;
      if (step.done) return { result: step.value, work: mostWork - own };
    } catch (cause) {
      throw asFormatError(cause);
    } finally {
      left = null;
    }
    yield;
  }
}

/** Returns the error of a format that is nested too deeply, for which the stack has overflowed; any other as it is. */
export function asFormatError(cause: unknown): unknown {
  if (!(cause instanceof RangeError)) return cause;
  const text = "format: expected parts that are nested less deeply, got too many levels";
  return new HeedError("ERR_ARGUMENT", text, { cause });
}

/**
 * Counts steps: a step is a microsecond or less. `time` is the part of them that counts for the next pause, if it is less
 * because the memory is what makes the steps expensive.
 */
export function spend(steps: number, time = steps): void {
  if (left === null) return;
  left -= steps;
  counted += time;
  if (left < 0 || counted > mostAtOnce)
    throw new HeedError("ERR_ARGUMENT", `format: expected one that is read in ${mostWork} steps, got a larger one`);
}

/** Returns what a reader returns within a part that cannot pause, all of whose steps count for that part. */
export function withoutPauses<T>(body: Steps<T>): T {
  const before = mayPause;
  mayPause = false;
  try {
    return atOnce(body);
  } finally {
    mayPause = before;
  }
}

/** Returns true if a reader should yield before it goes on, and begins to count again. */
export function isPauseDue(): boolean {
  if (counted < stepsBetweenPauses || !mayPause) return false;
  counted = 0;
  return true;
}
