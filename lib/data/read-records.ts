import { checkInteger, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { type BadLine, tooManyBadLines } from "./bad-lines.js";
import { documentsOf, valuesOf } from "./block-text.js";
import { blocksOf } from "./blocks.js";
import { findInputs, type InputOptions } from "./inputs.js";
import { type DataRecord, dataRecord } from "./records.js";

/** Options of `readRecords`. */
export interface ReadRecordsOptions extends InputOptions {
  /** Text between the documents of a text file, such as "\n". @default null (a text file is one document) */
  separator?: string | null;
  /** Name of the field or column with texts. @default "text" */
  textColumn?: string;
  /** Number of malformed lines that are left out; one more ends the iteration with ERR_FORMAT. @default 0 */
  maxBadLines?: number;
  /** Called for each line that is left out. */
  onBadLine?: (bad: BadLine & { file: string }) => void;
}

/** Longest text of one record in UTF-16 units, half of the longest string of V8. */
export const longestText = 2 ** 28;

/**
 * Yields the records of files one by one: texts, JSON lines, CSV and Parquet, also with gzip or zstd. Inputs are paths,
 * patterns, or data sets of the hub (owner/name). Only a piece of a file is in memory at a time.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * await writeFile("two.jsonl", '{"text": "Call me Ishmael."}\n{"prompt": "2+2=", "completion": "4"}\n');
 * for await (const record of readRecords("two.json?")) console.log(record);
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid.
 * @throws ERR_IO if a file cannot be read, or a package for its format is not installed.
 * @throws ERR_FORMAT if there are more malformed lines than `maxBadLines`, or a file is damaged.
 */
export async function* readRecords(
  inputs: string | readonly string[],
  options: ReadRecordsOptions = {},
): AsyncGenerator<DataRecord, void, undefined> {
  for await (const { record } of locatedRecords(inputs, options)) yield record;
}

/** A record with its place. */
export interface LocatedRecord {
  readonly record: DataRecord;
  readonly file: string;
  /** Number of the line or row in the file, counted from 1. */
  readonly line: number;
}

/** @internal Yields what `readRecords` does, with the places of the records. */
export async function* locatedRecords(
  inputs: string | readonly string[],
  options: ReadRecordsOptions = {},
): AsyncGenerator<LocatedRecord, void, undefined> {
  const op = "readRecords";
  checkObject(op, "options", options);
  const { separator = null, textColumn = "text", maxBadLines = 0, onBadLine } = options;
  checkInteger(op, "maxBadLines", maxBadLines, 0);
  if (separator !== null && (typeof separator !== "string" || separator === ""))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected separator to be a text that is not empty, or null, got ${describe(separator)}`,
    );
  const files = await findInputs(inputs, options);
  let count = 0;
  let open = "";
  for await (const block of blocksOf(files, { separator, textColumn })) {
    const { path: file } = files[block.from.file]!;
    const bad: BadLine[] = [...block.bad];
    const records: LocatedRecord[] = [];
    if (block.kind === "text")
      for (const { text, ends } of documentsOf(block, separator, bad)) {
        if (open.length + text.length > longestText)
          throw new HeedError(
            "ERR_RANGE",
            `${file}: expected documents of at most ${longestText} characters, got a longer one; writeShards has no such limit`,
          );
        open += text;
        if (!ends) continue;
        records.push({ record: { text: open }, file, line: block.from.line });
        open = "";
      }
    else
      for (const [line, parse] of valuesOf(block, bad))
        try {
          records.push({ record: dataRecord(parse(), textColumn), file, line });
        } catch (error) {
          if (!(error instanceof HeedError || error instanceof SyntaxError)) throw error;
          bad.push({ line, message: error.message });
        }
    for (const each of bad) {
      onBadLine?.({ ...each, file });
      if (++count > maxBadLines) throw tooManyBadLines(count, maxBadLines, `${file}:${each.line}: ${each.message}`);
    }
    yield* records;
  }
}
