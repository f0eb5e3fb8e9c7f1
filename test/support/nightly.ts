/** Settings of tests that take longer in the nightly run than in all other runs (docs/testing.md). */

/** True in the nightly run. */
export const nightly = process.env.HEED_FUZZ === "nightly";

/** Seeds of the software device. Each one gives another order of blocks and warps. */
export const orders: readonly string[] = nightly ? ["1", "2", "3", "4", "5"] : ["1", "2"];

/**
 * Returns the cases of a turn, for a list that is tested several times with something that does not depend on it: every
 * third case, other ones in each turn, and all of them at night.
 */
export function turns<T>(turn: number, cases: readonly T[]): T[] {
  return cases.filter((_, i) => nightly || (i + turn) % 3 === 0);
}
