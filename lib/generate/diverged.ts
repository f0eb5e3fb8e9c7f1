import { HeedError } from "../errors.js";

/**
 * The error (ERR_DIVERGED) of a call for several sequences when the model has diverged on some of them: the logits of a next
 * token have no distribution, because NaN or Infinity is among them or because all of them are -Infinity. The call carries
 * the other sequences to their end before it rejects.
 *
 * ```ts
 * const error: unknown = await generateTokens(model, prompts).catch((error: unknown) => error);
 * if (error instanceof DivergedError)
 *   for (const result of error.results) console.log(result.status === "fulfilled" ? result.value : result.reason);
 * ```
 */
export class DivergedError<T = unknown> extends HeedError {
  constructor(
    message: string,
    /** The outcome of each sequence, in order, in the form of `Promise.allSettled`. Each reason is a HeedError (ERR_DIVERGED). */
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

/** The values, in order. Throws a `DivergedError` where the model diverged on one of the sequences, which are called `name`. */
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

/** The error of a sequence whose next token has no distribution; `token` says which one that is. */
export function divergence(op: string, token: string): HeedError {
  return new HeedError(
    "ERR_DIVERGED",
    `${op}: the model has diverged: expected finite logits for ${token}, got NaN or Infinity (or -Infinity for every token)`,
  );
}
