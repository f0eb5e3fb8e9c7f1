import { CommanderError } from "commander";
import { HeedError } from "../errors.js";
import { complain } from "./output.js";

/** A flag or an argument that is not what it has to be. */
export class UsageError extends Error {}

/** Runs `body`, whose arguments are the user's: what heed finds wrong with them becomes an error of usage. */
export function asUsage<T>(body: () => T): T {
  try {
    return body();
  } catch (cause) {
    throw usageOf(cause);
  }
}

/** The error of usage that heed's error about the user's arguments stands for; other errors as they are. */
export function usageOf(cause: unknown): unknown {
  const usage = ["ERR_RANGE", "ERR_ARGUMENT", "ERR_SHAPE"];
  return cause instanceof HeedError && usage.includes(cause.code) ? new UsageError(cause.message, { cause }) : cause;
}

/** Says on stderr what went wrong, in a line; with HEED_DEBUG=1, where. Returns the exit code: 2 for wrong usage, else 1. */
export function report(error: unknown): number {
  // Commander has said it; help and version are no errors.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const known = error instanceof HeedError || error instanceof UsageError;
  const message = error instanceof Error ? error.message : String(error);
  complain(`error: ${known ? message : `${message} (HEED_DEBUG=1 shows where)`}`);
  if (process.env.HEED_DEBUG === "1" && error instanceof Error) complain(`${error.stack}`);
  return error instanceof UsageError ? 2 : 1;
}
