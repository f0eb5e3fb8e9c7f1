/** What takes longer at night than in every run of the tests (docs/testing.md). */

/** Whether this is the nightly run. */
export const nightly = process.env.HEED_FUZZ === "nightly";

/** Seeds of the software device, each of which is another order of blocks and warps. */
export const orders: readonly string[] = nightly ? ["1", "2", "3", "4", "5"] : ["1", "2"];
