// Which steps that verify drafts are recorded: those of a few tokens of each request, if little is computed in vain.
import { largest } from "../util/largest.js";
import { rowsFor } from "./decode-steps.js";
import { lengthOf, type Work } from "./scheduler.js";

/** Numbers of tokens of a row for which steps are recorded. A number between them is rounded up. */
const sizes = [2, 3, 4, 6, 8, 12, 16];

/** Largest share of the tokens that rounding up may add to a step. */
const mostInVain = 0.34;

/**
 * Returns the number of tokens of each row of a recorded step that verifies the drafts of this work, or null if the step
 * should not be recorded: there are no drafts, prompts are read or scored beside them, a text has to have a form, or the
 * requests have too different numbers of drafts. A page has `pageSize` tokens.
 */
export function tokensToVerify(work: readonly Work[], pageSize: number): number | null {
  const longest = largest(work.map(lengthOf));
  const tokens = sizes.find((size) => size >= longest);
  if (longest < 2 || tokens === undefined) return null;
  const rows = rowsFor(work.length);
  // Rows without a request write all their tokens to the same page.
  if (rows > work.length && tokens > pageSize) return null;
  // What is allowed after each draft is computed when the step is enqueued, and padding would multiply that.
  const verifies = ({ request: { pending, constraint, scoring }, count }: Work): boolean =>
    count === 1 && pending === 1 && constraint === null && scoring === null;
  if (!work.every(verifies)) return null;
  const real = work.reduce((sum, one) => sum + lengthOf(one), 0);
  return rows * tokens <= (1 + mostInVain) * real ? tokens : null;
}
