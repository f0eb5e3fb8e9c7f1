import { HeedError } from "../util/errors.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type PreferencePair, preferencePair } from "./preference-pair.js";
import { readRecords, type ReadRecordsOptions } from "./read-records.js";

/**
 * Resolves to the pairs of answers in files, for `dpoLoss` and the task `preferences`. Each record has a `chosen` and a
 * `rejected` answer, as texts or as messages, perhaps with a `prompt`. Inputs are those of `readRecords`; all pairs are
 * in memory. For more than that, `heed data` writes shards, which `TokenShards.pair` reads.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * await writeFile("pairs.jsonl", '{"prompt": "Hi. ", "chosen": "Hello!", "rejected": "No."}\n');
 * const pairs = await readPairs("pairs.jsonl", tokenizer);
 * addAdapter(gpt, { rank: 2 });
 * using trainer = new TaskTrainer({ model: gpt, task: preferences(), data: [pairs], steps: 1 });
 *
 * @throws ERR_FORMAT if a record is malformed or has no two answers; the message names the file.
 * @throws ERR_IO if a file cannot be read.
 * @throws ERR_ARGUMENT if the answers are messages, and the tokenizer has no chat template.
 */
export async function readPairs(
  inputs: string | readonly string[],
  tokenizer: Tokenizer,
  options: ReadRecordsOptions = {},
): Promise<PreferencePair[]> {
  const pairs: PreferencePair[] = [];
  for await (const record of readRecords(inputs, options)) {
    if (!("chosen" in record))
      throw new HeedError(
        "ERR_FORMAT",
        `${[inputs].flat().join(", ")}: expected records with a chosen and a rejected answer, got one without (record ${pairs.length + 1})`,
      );
    pairs.push(await preferencePair(record, tokenizer));
  }
  return pairs;
}
