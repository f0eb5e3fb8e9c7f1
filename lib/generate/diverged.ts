import { HeedError } from "../util/errors.js";

/**
 * Error (ERR_DIVERGED) of a call for several sequences when the model has diverged on some of them: the logits of a
 * token have no distribution, because NaN or Infinity is among them or all of them are -Infinity. The call completes
 * the other sequences before it rejects.
 *
 * @example
 * try {
 *   await generateTokens(gpt, [[72, 105], [72, 111]], { maxTokens: 4 });
 * } catch (error) {
 *   if (!(error instanceof DivergedError)) throw error;
 *   for (const result of error.results) console.log(result.status === "fulfilled" ? result.value : result.reason);
 * }
 */
export class DivergedError<T = unknown> extends HeedError {
  constructor(
    message: string,
    /**
     * The outcome of each sequence, in order, in the form of `Promise.allSettled`. Each reason is a HeedError
     * (ERR_DIVERGED).
     */
    readonly results: readonly PromiseSettledResult<T>[],
  ) {
    super("ERR_DIVERGED", message);
  }
}

/** The outcome of one of several sequences. */
export interface Outcome<T> {
  readonly value: T;
  /** The number of tokens that the sequence had when the model diverged on it, or null if it did not. */
  readonly divergedAfter: number | null;
}

/**
 * Returns the values, in order. `name` is what the error calls the sequences.
 *
 * @throws DivergedError if the model diverged on one of the sequences.
 */
export function valuesOf<T>(op: string, name: string, outcomes: readonly Outcome<T>[]): T[] {
  const errors: HeedError[] = [];
  const results = outcomes.map(({ value, divergedAfter }, index): PromiseSettledResult<T> => {
    if (divergedAfter === null) return { status: "fulfilled", value };
    const reason = divergence(op, `token ${divergedAfter + 1} after ${name}[${index}]`);
    errors.push(reason);
    return { status: "rejected", reason };
  });
  const [first, ...others] = errors;
  if (!first) return outcomes.map(({ value }) => value);
  const more = others.length > 0 ? `; it has diverged on ${errors.length} of ${outcomes.length} ${name}` : "";
  throw new DivergedError(`${first.message}${more}`, results);
}

/** Returns the error of a sequence whose next token has no distribution. `token` names the token in the message. */
export function divergence(op: string, token: string): HeedError {
  return new HeedError(
    "ERR_DIVERGED",
    `${op}: the model has diverged: expected finite logits for ${token}, got NaN or Infinity (or -Infinity for every token)`,
  );
}
