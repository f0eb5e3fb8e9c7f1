import { HeedError } from "../util/errors.js";
import { valuesOf } from "./block-text.js";
import { blocksOf } from "./blocks.js";
import type { BadLine } from "./bad-lines.js";
import { findInputs } from "./inputs.js";

/** A line or row of a file. */
export interface DocumentRow {
  /** Number of the line (JSON lines, CSV) or of the row (Parquet), counted from 1. */
  readonly line: number;
  /** The line's value, or the row's cells by the names of their columns. Integers of 64 bits are numbers. */
  readonly value: unknown;
}

/**
 * Yields the lines of a file of JSON lines, or the rows of CSV, TSV or Parquet with all their columns. `parse` parses a line
 * of JSON.
 *
 * @throws ERR_IO if the file cannot be read, or a package for its format is not installed.
 * @throws ERR_FORMAT if the file is malformed; the message names the file and the line.
 */
export async function* documentRows(
  path: string,
  parse: (json: string) => unknown = JSON.parse,
): AsyncGenerator<DocumentRow, void, undefined> {
  const files = await findInputs(path);
  for await (const block of blocksOf(files, { separator: null, textColumn: null })) {
    if (block.kind === "text") throw new HeedError("ERR_FORMAT", `${path}: expected lines or rows, got a text`);
    const bad: BadLine[] = [...block.bad];
    for (const [line, read] of valuesOf(block, bad, parse)) yield { line, value: plain(parsed(path, line, read)) };
    for (const { line, message } of bad) throw new HeedError("ERR_FORMAT", `${path}:${line}: ${message}`);
  }
}

function parsed(path: string, line: number, parse: () => unknown): unknown {
  try {
    return parse();
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${path}:${line}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

/** Returns a value in which integers of 64 bits, as Parquet has them, are numbers. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}
