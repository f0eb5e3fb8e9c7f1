// Records of examples to train on: what a line of a file may contain, and the examples in it.
import { describe, HeedError } from "../util/errors.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { chatExamples, textExample } from "./chat-examples.js";
import { asContext, checkMessages, exchangeOf } from "./conversation.js";
import type { TrainingExample } from "./pack-examples.js";

/**
 * A text, a completion of a prompt, or a conversation, perhaps with tools. `label` is false if the answer is a bad one, as
 * in the data of KTO: there is nothing to learn from it.
 */
export type ExampleRecord =
  | { text: string }
  | { prompt: string; completion: string; label?: boolean }
  | { messages: ChatMessage[]; tools?: unknown[] | null; label?: boolean };

/**
 * Returns the record in a value from a file.
 *
 * @throws ERR_FORMAT if the value is no such record.
 */
export function exampleRecord(json: unknown): ExampleRecord {
  const { messages, prompt, completion, text, ...others } = Object(json) as Record<string, unknown>;
  const label = labelOf(others.label);
  const labelled = label === null ? {} : { label };
  if (messages !== undefined) {
    checkMessages("messages", messages);
    return { messages, tools: toolsOf(others.tools), ...labelled };
  }
  if (typeof prompt === "string" && typeof completion === "string") return { prompt, completion, ...labelled };
  if (
    (typeof prompt === "string" || Array.isArray(prompt)) &&
    (typeof completion === "string" || Array.isArray(completion))
  ) {
    const exchange = exchangeOf(prompt, "completion", completion);
    return { messages: [...asContext(exchange.prompt), ...exchange.answer], tools: toolsOf(others.tools), ...labelled };
  }
  if (typeof text === "string") return { text };
  const given =
    others.chosen !== undefined && others.rejected !== undefined
      ? "a pair of answers, which readPairs() and heed train --preference take"
      : describe(json);
  throw new HeedError(
    "ERR_FORMAT",
    `expected an object with messages, with prompt and completion, or with text, got ${given}`,
  );
}

/**
 * Returns the tools of a record, or null.
 *
 * @throws ERR_FORMAT if they are no array.
 */
export function toolsOf(tools: unknown): unknown[] | null {
  if (tools === undefined || tools === null) return null;
  if (Array.isArray(tools)) return tools as unknown[];
  throw new HeedError("ERR_FORMAT", `expected tools to be an array, got ${describe(tools)}`);
}

/** Returns what a label says about an answer: true if it is a good one; null if the label says something else. */
function labelOf(label: unknown): boolean | null {
  // Tables have texts and integers.
  const text =
    typeof label === "boolean" || typeof label === "number" || typeof label === "bigint" ? `${label}` : label;
  if (typeof text !== "string") return null;
  if (/^(true|1)$/i.test(text)) return true;
  return /^(false|0)$/i.test(text) ? false : null;
}

/**
 * Resolves to the examples of a record. Of conversations the assistant's tokens count for the loss, of completions those
 * after the prompt, of texts all. A record whose label says that the answer is a bad one has no example.
 *
 * @throws ERR_ARGUMENT if the record has messages, and the tokenizer has no chat template or rejects them.
 */
export async function recordExamples(record: ExampleRecord, tokenizer: Tokenizer): Promise<TrainingExample[]> {
  if ("label" in record && !record.label) return [];
  if ("messages" in record) return chatExamples(tokenizer, record.messages, { tools: record.tools ?? null });
  if ("completion" in record) return [await textExample(tokenizer, record.completion, { prompt: record.prompt })];
  return [await textExample(tokenizer, record.text)];
}
