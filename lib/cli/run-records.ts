// The records of a run: lines of JSON, JSON arrays, and rows of CSV or Parquet, as examples to train on.
import { locatedRecords } from "../data/read-records.js";
import { checkKind } from "../data/records.js";
import { HeedError } from "../util/errors.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { withChatTemplate } from "../data/chat-examples.js";
import { type ExampleRecord, recordExamples } from "../data/example-record.js";
import { packExamples, type PackedExamples, splitExamples, type TrainingExample } from "../data/pack-examples.js";
import { asUsage, UsageError } from "./failure.js";

/** Record with its place, for messages. */
export interface RunRecord {
  record: ExampleRecord;
  /** File and number of the line. */
  place: string;
}

/**
 * Resolves to the records of files.
 *
 * @throws ERR_FORMAT if a record is malformed, or is a pair of answers; the message names the file and the line.
 */
export async function recordsOf(files: readonly string[]): Promise<RunRecord[]> {
  const records: RunRecord[] = [];
  for await (const { record, file, line } of locatedRecords(files)) {
    const place = `${file}:${line}`;
    at(place, () => checkKind(record, "examples"));
    records.push({ record: record as ExampleRecord, place });
  }
  if (records.length === 0) throw new HeedError("ERR_RANGE", `${files.join(", ")}: expected records, got none`);
  return records;
}

/** Returns true if one of the records is a conversation. */
export function hasConversations(records: readonly RunRecord[]): boolean {
  return records.some(({ record }) => "messages" in record);
}

/** Returns all texts in records, from which a tokenizer of characters is made. */
export function textOf(records: readonly RunRecord[]): string {
  return records
    .map(({ record }) =>
      "text" in record ? record.text : "completion" in record ? record.prompt + record.completion : "",
    )
    .join("\n");
}

/** Returns the tokenizer of a run with these records: with a chat template if there are conversations. */
export function tokenizerFor(records: readonly RunRecord[], tokenizer: Tokenizer): Tokenizer {
  return hasConversations(records) ? asUsage(() => withChatTemplate(tokenizer)) : tokenizer;
}

/**
 * Resolves to the examples of records. A text that is longer than the context is cut into parts. Completions and
 * conversations that do not fit, and those of which nothing is learned, are left out, and `warn` is told how many.
 *
 * @throws ERR_FORMAT if a record cannot be encoded; the message names its place.
 */
export async function examplesOf(
  records: readonly RunRecord[],
  tokenizer: Tokenizer,
  { data, context, warn }: { data: string; context: number; warn: (text: string) => void },
): Promise<TrainingExample[]> {
  const kept: TrainingExample[] = [];
  let [all, long, empty, bad] = [0, 0, 0, 0];
  for (const { record, place } of records) {
    const examples = await recordExamples(record, tokenizer).catch((cause: unknown) => at(place, () => raise(cause)));
    all += Math.max(1, examples.length);
    if (examples.length === 0) bad++;
    for (const example of examples)
      if ("text" in record) for (const part of splitExamples([example], context)) kept.push(part);
      else if (example.ids.length > context + 1) long++;
      else if (!example.mask.includes(1, 1)) empty++;
      else kept.push(example);
  }
  tellLeftOut(data, { context, all, long, bad, empty, warn });
  return kept;
}

/** Tells `warn` how many examples are left out: too long ones, bad answers, and those with nothing to learn. */
export function tellLeftOut(
  data: string,
  found: {
    context: number;
    all: number;
    long: number;
    bad?: number;
    empty: number;
    warn: (text: string) => void;
  },
): void {
  const { context, all, long, bad = 0, empty, warn } = found;
  const tell = (count: number, what: string): void => {
    if (count > 0) warn(`warning: ${data}: ${count} of ${all} examples ${what}`);
  };
  tell(long, `do not fit into --context ${context} and are left out`);
  tell(bad, "are left out, because their label says that the answer is a bad one");
  tell(empty, "are left out, because no token of theirs is to be learned");
}

/** Returns true if there is a token to learn. */
export function teaches(examples: readonly TrainingExample[]): boolean {
  return examples.some(({ mask }) => mask.includes(1, 1));
}

/**
 * Packs the examples of a run.
 *
 * @throws UsageError if there is nothing to learn from them.
 */
export function pack(
  data: string,
  examples: readonly TrainingExample[],
  { context }: { context: number },
): PackedExamples {
  if (!teaches(examples))
    throw new UsageError(
      `--data ${data}: expected an example with a token to learn that fits into --context ${context}, got none`,
    );
  return asUsage(() => packExamples(examples, { contextLength: context }));
}

/** Runs `body`. An error of its own names the place. */
function at<T>(place: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    if (!(cause instanceof HeedError)) throw cause;
    throw new HeedError("ERR_FORMAT", `${place}: ${cause.message}`, { cause });
  }
}

function raise(cause: unknown): never {
  throw cause;
}
