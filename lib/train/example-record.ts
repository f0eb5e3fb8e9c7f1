// The objects of which training data consists, as they are written in JSON lines, and their examples.
import { describe, HeedError } from "../errors.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { chatExamples, textExample } from "./chat-examples.js";
import type { TrainingExample } from "./pack-examples.js";

/** A text, a completion of a prompt, or a conversation, perhaps with tools. */
export type ExampleRecord =
  { text: string } | { prompt: string; completion: string } | { messages: ChatMessage[]; tools?: unknown[] | null };

/**
 * Returns the record in a value from a file.
 *
 * @throws ERR_FORMAT if the value is no such record.
 */
export function exampleRecord(json: unknown): ExampleRecord {
  const { messages, tools, prompt, completion, text } = Object(json) as Record<string, unknown>;
  if (messages !== undefined) {
    checkMessages("messages", messages);
    if (tools !== undefined && tools !== null && !Array.isArray(tools))
      throw new HeedError("ERR_FORMAT", `expected tools to be an array, got ${describe(tools)}`);
    return { messages, tools: (tools as unknown[] | undefined) ?? null };
  }
  if (typeof prompt === "string" && typeof completion === "string") return { prompt, completion };
  if (typeof text === "string") return { text };
  const { chosen, rejected } = Object(json) as Record<string, unknown>;
  const given =
    chosen !== undefined && rejected !== undefined
      ? "a pair of answers, which readPairs() and heed train --preference take"
      : describe(json);
  throw new HeedError(
    "ERR_FORMAT",
    `expected an object with messages, with prompt and completion, or with text, got ${given}`,
  );
}

/**
 * Checks that a value is an array of messages.
 *
 * @throws ERR_FORMAT if it is not; the message calls the value `name`.
 */
export function checkMessages(name: string, messages: unknown): asserts messages is ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new HeedError("ERR_FORMAT", `expected ${name} to be an array with messages, got ${describe(messages)}`);
  for (const [i, message] of messages.entries()) {
    const { role, content, tool_calls: calls } = Object(message) as Record<string, unknown>;
    if (typeof role !== "string" || (typeof content !== "string" && !calls))
      throw new HeedError(
        "ERR_FORMAT",
        `expected ${name}[${i}] to have a role and a content, got ${describe(message)}`,
      );
  }
}

/**
 * Resolves to the examples of a record. Of conversations the assistant's tokens count for the loss, of completions those
 * after the prompt, of texts all.
 *
 * @throws ERR_ARGUMENT if the record has messages, and the tokenizer has no chat template or rejects them.
 */
export async function recordExamples(record: ExampleRecord, tokenizer: Tokenizer): Promise<TrainingExample[]> {
  if ("messages" in record) return chatExamples(tokenizer, record.messages, { tools: record.tools ?? null });
  if ("completion" in record) return [await textExample(tokenizer, record.completion, { prompt: record.prompt })];
  return [await textExample(tokenizer, record.text)];
}
