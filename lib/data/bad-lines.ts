import { HeedError } from "../util/errors.js";

/** Input that was left out, and why. */
export interface BadLine {
  /** Number of the line or row in its file, counted from 1. */
  line: number;
  message: string;
}

/** Returns the error of a run that has found more bad lines than it may. `last` describes the last one. */
export function tooManyBadLines(count: number, limit: number, last: string): HeedError {
  const unit = count === 1 ? "line" : "lines";
  return new HeedError("ERR_FORMAT", `${last} (expected at most ${limit} bad lines, got ${count} ${unit})`);
}
