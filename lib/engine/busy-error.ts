import { HeedError } from "../util/errors.js";

/**
 * Error (ERR_BUSY) of a request that an engine refuses because too many wait already.
 *
 * @example
 * await using engine = new Engine(gpt, { tokenizer, maxQueue: 100 });
 * try {
 *   await engine.generate({ prompt: "Call me", maxTokens: 8 });
 * } catch (error) {
 *   if (!(error instanceof BusyError)) throw error;
 *   console.log(`The server is busy. Try again in ${Math.ceil(error.retryAfter)} seconds.`);
 * }
 */
export class BusyError extends HeedError {
  constructor(
    queue: number,
    /** Seconds after which about half of the waiting requests will have ended, by the latest ones. */
    readonly retryAfter: number,
    /** Number of answers for which there is no room together, and the number of those for which there is. */
    { answers = 1, room = 0 } = {},
  ) {
    const problem =
      answers === 1
        ? `expected fewer than ${queue} requests to wait, got as many`
        : `expected room for ${answers} answers, got room for ${room}`;
    super("ERR_BUSY", `generate: ${problem}; try again in ${Math.ceil(retryAfter)} s`);
  }
}
