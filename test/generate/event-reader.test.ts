/** Tests that an EventReader does what a generator around the events would do. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { EventReader, type EventsOf, type Listener } from "../../lib/generate/event-reader.js";

/** The generator that a reader stands for. */
async function* generatorAround(begin: EventsOf<number>, listener: Listener<number>) {
  let failed = false;
  try {
    for await (const value of await begin()) {
      listener.event(value);
      yield value;
    }
  } catch (error) {
    failed = true;
    listener.error(error);
    throw error;
  } finally {
    if (!failed) listener.end();
  }
}

interface Plan {
  /** Number of events before the end. */
  events: number;
  /** Number of events before the failure; -1 if the events fail before they begin, and null if they do not fail. */
  failsAfter: number | null;
  /** Methods that the caller calls in turn, each with true if it waits for the result before the next call. */
  calls: readonly (readonly ["next" | "return" | "throw", boolean])[];
}

/** Returns all that a caller and a listener see. */
async function seen({ events, failsAfter, calls }: Plan, wrap: typeof generatorAround): Promise<unknown[]> {
  const log: unknown[] = [];
  // Calls that do not wait may close the source before the listener has been told of all events.
  let closed = 0;
  const source: EventsOf<number> = async () => {
    await Promise.resolve();
    if (failsAfter === -1) throw new Error("begin");
    return (async function* () {
      try {
        for (let i = 0; i < events; i++) {
          if (i === failsAfter) throw new Error(`event ${i}`);
          await Promise.resolve();
          yield i;
        }
      } finally {
        closed++;
      }
    })();
  };
  const note = (name: string) => (value?: unknown) => void log.push([name, String(value)]);
  const reader = wrap(source, { event: note("event"), end: note("end"), error: note("error") });
  const results: Promise<unknown>[] = [];
  for (const [call, waits] of calls) {
    const result: Promise<unknown> = call === "throw" ? reader.throw(new Error("thrown")) : reader[call]();
    const outcome = result.catch((error: unknown) => String(error));
    results.push(outcome);
    if (waits) await outcome;
  }
  return [...(await Promise.all(results)), log, closed];
}

test("a reader gives and tells what a generator around the events would", async () => {
  // A generator that has not begun runs nothing at `return` and `throw`; calls that do not wait are all of `next`.
  const call = fc.oneof(
    fc.tuple(fc.constant("next" as const), fc.boolean()),
    fc.tuple(fc.constantFrom("next" as const, "return" as const, "throw" as const), fc.constant(true)),
  );
  const plan = fc.record({
    events: fc.integer({ min: 0, max: 4 }),
    failsAfter: fc.option(fc.integer({ min: -1, max: 3 })),
    calls: fc.array(call, { maxLength: 8 }),
  });
  await fc.assert(
    fc.asyncProperty(plan, async (one) => {
      const reader = await seen(one, (begin, listener) => new EventReader(begin, listener));
      expect(reader).toEqual(await seen(one, generatorAround));
    }),
    { numRuns: 500 },
  );
});
