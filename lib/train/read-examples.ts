// Reads examples to train on from a file of JSON lines.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { describe, HeedError } from "../errors.js";
import { naming } from "../files.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { chatExamples, textExample } from "./chat-examples.js";
import type { TrainingExample } from "./pack-examples.js";

/**
 * Resolves to the examples in a file of JSON lines. Each line is an object with `messages` (a conversation, perhaps with
 * `tools`), with `prompt` and `completion`, or with `text`. Of conversations the assistant's tokens count for the loss,
 * of completions those after the prompt, of texts all. Empty lines are skipped.
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
export async function readExamples(file: string, tokenizer: Tokenizer): Promise<TrainingExample[]> {
  return naming(file, async () => {
    const lines = createInterface({ input: createReadStream(file), crlfDelay: Infinity });
    const examples: TrainingExample[] = [];
    let number = 0;
    for await (const line of lines) {
      number++;
      if (line.trim() === "") continue;
      try {
        examples.push(...(await examplesOf(line, tokenizer)));
      } catch (cause) {
        if (!(cause instanceof HeedError || cause instanceof SyntaxError)) throw cause;
        throw new HeedError("ERR_FORMAT", `${file}:${number}: ${cause.message}`, { cause });
      }
    }
    return examples;
  });
}

async function examplesOf(line: string, tokenizer: Tokenizer): Promise<TrainingExample[]> {
  const json = JSON.parse(line) as unknown;
  const { messages, tools, prompt, completion, text } = Object(json) as Record<string, unknown>;
  if (messages !== undefined) {
    checkMessages(messages);
    if (tools !== undefined && tools !== null && !Array.isArray(tools))
      throw new HeedError("ERR_FORMAT", `expected tools to be an array, got ${describe(tools)}`);
    return chatExamples(tokenizer, messages, { tools: (tools as unknown[] | undefined) ?? null });
  }
  if (typeof prompt === "string" && typeof completion === "string")
    return [await textExample(tokenizer, completion, { prompt })];
  if (typeof text === "string") return [await textExample(tokenizer, text)];
  throw new HeedError(
    "ERR_FORMAT",
    `expected an object with messages, with prompt and completion, or with text, got ${describe(json)}`,
  );
}

function checkMessages(messages: unknown): asserts messages is ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new HeedError("ERR_FORMAT", `expected messages to be an array with messages, got ${describe(messages)}`);
  for (const [i, message] of messages.entries()) {
    const { role, content, tool_calls: calls } = Object(message) as Record<string, unknown>;
    if (typeof role !== "string" || (typeof content !== "string" && !calls))
      throw new HeedError(
        "ERR_FORMAT",
        `expected messages[${i}] to have a role and a content, got ${describe(message)}`,
      );
  }
}
