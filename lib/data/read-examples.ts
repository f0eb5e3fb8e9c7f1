// Reads examples to train on from a file of records.
import { stat } from "node:fs/promises";
import type { BadLine } from "./bad-lines.js";
import { valuesOf } from "./block-text.js";
import { blocksOf } from "./blocks.js";
import { type DataFile, formatOf } from "./inputs.js";
import { checkKind, dataRecord } from "./records.js";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type ExampleRecord, recordExamples } from "./example-record.js";
import type { TrainingExample } from "./pack-examples.js";

/** Options of `readExamples`. */
export interface ReadExamplesOptions {
  /** Called with the number of each line, row or element from which nothing can be learned, because its label says that it is bad. */
  onLeftOut?: (line: number) => void;
}

/**
 * Resolves to the examples in a file of JSON lines, an array in JSON (.json), or a table (.csv, .tsv, .parquet), also with
 * .gz or .zst. Each line, element or row is an object with `messages` (a conversation, perhaps with
 * `tools`), with `prompt` and `completion`, or with `text`. Of conversations the assistant's tokens count for the loss,
 * of completions those after the prompt, of texts all. An answer whose line has the label false, as in the data of KTO,
 * is a bad one and is left out. Empty lines are skipped.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * await writeFile("pairs.jsonl", '{"prompt": "2+2=", "completion": "4"}\n');
 * const examples = await readExamples("pairs.jsonl", tokenizer);
 * const data = packExamples(examples, { contextLength: 16 });
 *
 * @throws ERR_FORMAT if a line is malformed; the message names the file and the line.
 * @throws ERR_IO if the file cannot be read.
 * @throws ERR_ARGUMENT if a line has messages, and the tokenizer has no chat template.
 */
export async function readExamples(
  file: string,
  tokenizer: Tokenizer,
  { onLeftOut }: ReadExamplesOptions = {},
): Promise<TrainingExample[]> {
  const examples: TrainingExample[] = [];
  for await (const block of blocksOf([await recordFile(file)], { separator: null, textColumn: "text" })) {
    if (block.kind === "text") continue;
    const bad: BadLine[] = [...block.bad];
    for (const [line, parse] of valuesOf(block, bad))
      try {
        const record = dataRecord(parse());
        checkKind(record, "examples");
        const found = await recordExamples(record as ExampleRecord, tokenizer);
        if (found.length === 0) onLeftOut?.(line);
        for (const example of found) examples.push(example);
      } catch (cause) {
        if (!(cause instanceof HeedError || cause instanceof SyntaxError)) throw cause;
        throw new HeedError("ERR_FORMAT", `${file}:${line}: ${cause.message}`, { cause });
      }
    for (const { line, message } of bad) throw new HeedError("ERR_FORMAT", `${file}:${line}: ${message}`);
  }
  return examples;
}

/** Resolves to a file of records. A name that does not say another format is that of JSON lines. */
async function recordFile(file: string): Promise<DataFile> {
  const found = formatOf(file) ?? { format: "jsonl", compression: null };
  const { size, mtimeMs } = await naming(file, () => stat(file));
  return { path: file, size, modified: mtimeMs, ...found, format: found.format === "text" ? "jsonl" : found.format };
}
