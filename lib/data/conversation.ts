// Conversations in the records of training data: their form, and how a prompt and an answer make one.
import { isDeepStrictEqual } from "node:util";
import { describe, HeedError } from "../util/errors.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";

/**
 * Checks that a value is an array of messages. A message's `weight`, if it has one, must be 0 or 1.
 *
 * @throws ERR_FORMAT if it is not; the message calls the value `name`.
 */
export function checkMessages(name: string, messages: unknown): asserts messages is ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new HeedError("ERR_FORMAT", `expected ${name} to be an array with messages, got ${describe(messages)}`);
  for (const [i, message] of messages.entries()) {
    const { role, content, tool_calls: calls, weight } = Object(message) as Record<string, unknown>;
    if (typeof role !== "string" || (typeof content !== "string" && !calls))
      throw new HeedError(
        "ERR_FORMAT",
        `expected ${name}[${i}] to have a role and a content, got ${describe(message)}`,
      );
    // Parquet has integers of 64 bits.
    const given = typeof weight === "bigint" ? Number(weight) : (weight ?? 1);
    if (given !== 0 && given !== 1)
      throw new HeedError("ERR_FORMAT", `expected ${name}[${i}].weight to be 0 or 1, got ${describe(weight)}`);
  }
}

/** Returns true if the model learns a message: one of the assistant's whose weight is not 0. */
export function isLearned({ role, weight }: ChatMessage): boolean {
  return role === "assistant" && (weight === undefined || weight === null || Number(weight) !== 0);
}

/** Returns messages of which the model learns none: those of the assistant get the weight 0. */
export function asContext(messages: readonly ChatMessage[]): ChatMessage[] {
  return messages.map((message) => (isLearned(message) ? { ...message, weight: 0 } : message));
}

/** A prompt of messages, and an answer that continues it. */
export interface Exchange {
  prompt: ChatMessage[];
  answer: ChatMessage[];
}

/**
 * Returns a prompt and an answer as messages. A text is what the user asks, or what the assistant answers. An answer that
 * is a whole conversation, with the user's turn in it, takes the place of a prompt of text; if it repeats the end of a
 * prompt of messages, it continues the prompt after that. `name` is what error messages call the answer.
 *
 * @throws ERR_FORMAT if a value is neither a text nor an array of messages.
 */
export function exchangeOf(prompt: unknown, name: string, answer: unknown): Exchange {
  const answered = typeof answer === "string" ? [{ role: "assistant", content: answer }] : answer;
  checkMessages(name, answered);
  if (isNothing(prompt)) return { prompt: [], answer: answered };
  if (typeof prompt !== "string") {
    checkMessages("prompt", prompt);
    return { prompt, answer: answered.slice(overlap(prompt, answered)) };
  }
  const first = answered.findIndex(({ role }) => role !== "system" && role !== "developer");
  if (answered[first]?.role === "user") return { prompt: [], answer: answered };
  const before = first < 0 ? answered.length : first;
  return {
    prompt: [...answered.slice(0, before), { role: "user", content: prompt }],
    answer: answered.slice(before),
  };
}

/** Returns true for a prompt without content. */
function isNothing(prompt: unknown): boolean {
  return prompt === undefined || prompt === null || prompt === "" || (Array.isArray(prompt) && prompt.length === 0);
}

/** Returns the number of messages with which an answer repeats the end of the prompt. */
function overlap(prompt: readonly ChatMessage[], answer: readonly ChatMessage[]): number {
  // An assistant's turn that follows an equal one is a turn of its own.
  if (answer[0]!.role === "assistant" || answer[0]!.role === "tool") return 0;
  for (let count = Math.min(prompt.length, answer.length - 1); count > 0; count--)
    if (isDeepStrictEqual(prompt.slice(-count), answer.slice(0, count))) return count;
  return 0;
}

/**
 * Returns the number of messages with which two conversations begin alike. At least the last message of each is left.
 */
export function commonBeginning(a: readonly ChatMessage[], b: readonly ChatMessage[]): number {
  const most = Math.min(a.length, b.length) - 1;
  let count = 0;
  while (count < most && isDeepStrictEqual(a[count], b[count])) count++;
  return count;
}
