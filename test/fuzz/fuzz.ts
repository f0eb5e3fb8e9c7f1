/**
 * Compares random cases with a slow twin, because cases chosen by hand miss what nobody thought of.
 *
 * A property has a number of cases for every test run and one for the nightly run. In a test run the seed is fixed, so
 * that a failure is caused by a change; `npm run fuzz` draws a new seed and prints it. fast-check shrinks a case that
 * fails and prints its seed and path. To run that case again:
 *
 *   HEED_FUZZ_SEED=… HEED_FUZZ_PATH=… npx vitest run test/fuzz/<file> -t '<name of the test>'
 */
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { afterAll } from "vitest";
import { nightly } from "../support/nightly.js";
import { testUnless } from "../support/skip.js";

/** The same number in all test files of a run: `npm run fuzz` sets it for all of its processes. */
const seed = Number(process.env.HEED_FUZZ_SEED ?? 20261127);
const shrunk = process.env.HEED_FUZZ_PATH;
/**
 * Set by `npm run fuzz -- --minutes`: the seconds that all properties of a file may take together, and the file in
 * which each counts its cases.
 */
const { HEED_FUZZ_SECONDS: seconds, HEED_FUZZ_TALLY: tally } = process.env;

/** Number of properties of this file that have not begun: they share the remaining time. */
let waiting = 0;
const ends = performance.now() + 1000 * Number(seconds ?? Infinity);

let tried = 0;
if (tally !== undefined) afterAll(() => writeFileSync(path.join(tally, randomUUID()), String(tried)));

/** Numbers of cases on which a property is tested. */
export interface Cases {
  /** Cases in every run of the tests. */
  ci: number;
  /** Cases in `npm run fuzz`. */
  nightly: number;
  /** Why the property is skipped; null if it is not. */
  unless?: string | null;
}

const minutes = 60_000;

/**
 * Registers a test that checks `property` on random cases of `arbitrary` and fails with the smallest case that breaks
 * it. With `fc.gen()` as the arbitrary, the property draws its values one by one, in the order in which it needs them.
 */
export function fuzz<T>(
  name: string,
  arbitrary: fc.Arbitrary<T>,
  cases: Cases,
  property: (value: T) => void | Promise<void>,
): void {
  const numRuns = nightly ? cases.nightly : cases.ci;
  if (!cases.unless) waiting++;
  testUnless(cases.unless)(
    `${name}, ${numRuns} cases`,
    { timeout: nightly ? 120 * minutes : 10 * minutes },
    async () => {
      const until = performance.now() + Math.max(100, (ends - performance.now()) / waiting--);
      let failed = false;
      const asynchronous = fc.asyncProperty(arbitrary, async (value) => {
        // The end of the time must not stop the search for a smaller failing case.
        if (performance.now() > until && !failed) return;
        tried++;
        try {
          await property(value);
        } catch (error) {
          failed = true;
          throw error;
        }
      });
      const again = shrunk === undefined ? {} : { path: shrunk };
      await fc.assert(asynchronous, { numRuns, seed, ...again, endOnFailure: false });
    },
  );
}
