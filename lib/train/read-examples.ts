// Reads examples to train on from a file of JSON lines.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { HeedError } from "../errors.js";
import { naming, withoutMark } from "../files.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { exampleRecord, recordExamples } from "./example-record.js";
import type { TrainingExample } from "./pack-examples.js";

/** Options of `readExamples`. */
export interface ReadExamplesOptions {
  /** Called with the number of each line from which nothing can be learned, because its label says that it is bad. */
  onLeftOut?: (line: number) => void;
}

/**
 * Resolves to the examples in a file of JSON lines. Each line is an object with `messages` (a conversation, perhaps with
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
  return naming(file, async () => {
    const lines = createInterface({ input: createReadStream(file), crlfDelay: Infinity });
    const examples: TrainingExample[] = [];
    let number = 0;
    for await (const line of lines) {
      number++;
      if (line.trim() === "") continue;
      try {
        const json: unknown = JSON.parse(number === 1 ? withoutMark(line) : line);
        const found = await recordExamples(exampleRecord(json), tokenizer);
        if (found.length === 0) onLeftOut?.(number);
        for (const example of found) examples.push(example);
      } catch (cause) {
        if (!(cause instanceof HeedError || cause instanceof SyntaxError)) throw cause;
        throw new HeedError("ERR_FORMAT", `${file}:${number}: ${cause.message}`, { cause });
      }
    }
    return examples;
  });
}
