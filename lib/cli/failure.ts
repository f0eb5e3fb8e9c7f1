import { CommanderError } from "commander";
import { HeedError } from "../util/errors.js";
import { complain } from "./output.js";

/** Error about a flag or an argument that is invalid. */
export class UsageError extends Error {}

/** Runs `body`, whose arguments come from the user, so that an error about them becomes a UsageError. */
export function asUsage<T>(body: () => T): T {
  try {
    return body();
  } catch (cause) {
    throw usageOf(cause);
  }
}

/** Returns a UsageError for a HeedError about arguments, and any other error as it is. */
export function usageOf(cause: unknown): unknown {
  const usage = ["ERR_RANGE", "ERR_ARGUMENT", "ERR_SHAPE"];
  return cause instanceof HeedError && usage.includes(cause.code) ? new UsageError(cause.message, { cause }) : cause;
}

/**
 * Writes the error to stderr in one line and, with HEED_DEBUG=1, its stack. Returns the exit code: 2 for wrong usage, 1
 * for other errors. `who` names the process, if there are several.
 */
export function report(error: unknown, who = ""): number {
  // Commander has already written the message. Help and version arrive here too, but are no errors.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const known = error instanceof HeedError || error instanceof UsageError;
  const message = error instanceof Error ? error.message : String(error);
  complain(`error: ${who}${known ? message : `${message} (set HEED_DEBUG=1 to see where)`}`);
  if (process.env.HEED_DEBUG === "1" && error instanceof Error) complain(`${error.stack}`);
  return error instanceof UsageError ? 2 : 1;
}
