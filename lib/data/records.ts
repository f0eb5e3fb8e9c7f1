// The records of training data. They come from JSON lines, or from the rows of tables, whose columns have the same names.
import { isDeepStrictEqual } from "node:util";
import { describe, HeedError } from "../util/errors.js";
import type { ChatMessage } from "../tokenizer/chat-template.js";
import { checkMessages, type Exchange, exchangeOf } from "./conversation.js";
import { exampleRecord, type ExampleRecord, toolsOf } from "./example-record.js";

/**
 * Two answers to a prompt, of which the first is better: as texts, or as messages, perhaps with tools. If the answers are
 * whole conversations, the prompt is empty: it is what they have in common at their beginning.
 */
export type PreferenceRecord =
  | { prompt: string; chosen: string; rejected: string }
  | { prompt: ChatMessage[]; chosen: ChatMessage[]; rejected: ChatMessage[]; tools?: unknown[] | null };

/** A text, a completion of a prompt, a conversation, or two answers of which one is better. */
export type DataRecord = ExampleRecord | PreferenceRecord;

/**
 * Purpose of a data set: texts whose every token counts ("text"), texts, completions and conversations of which only the
 * answers count ("examples"), or pairs of answers ("preference").
 */
export type DataKind = "text" | "examples" | "preference";

/** The kinds of data sets. */
export const dataKinds = ["text", "examples", "preference"] as const satisfies readonly DataKind[];

/** Names of the columns from which records are made, besides the column of texts. */
export const recordColumns = ["messages", "tools", "prompt", "completion", "chosen", "rejected", "label"] as const;

/**
 * Returns the record in a value from a file. `textColumn` is the name under which texts are stored. If the data set has
 * the kind "text", the text counts, whatever other fields there are.
 *
 * @throws ERR_FORMAT if the value is no record.
 */
export function dataRecord(value: unknown, textColumn = "text", kind: DataKind | null = null): DataRecord {
  const fields = fieldsOf(value, textColumn);
  const { prompt, chosen, rejected } = fields;
  if (kind === "text" && typeof fields.text === "string") return { text: fields.text };
  if (chosen === undefined && rejected === undefined) return exampleRecord(fields);
  if (typeof chosen === "string" && typeof rejected === "string" && !Array.isArray(prompt)) {
    if (prompt !== undefined && typeof prompt !== "string")
      throw new HeedError("ERR_FORMAT", `expected prompt to be a text or messages, got ${describe(prompt)}`);
    return { prompt: prompt ?? "", chosen, rejected };
  }
  return conversations(fields);
}

/** Returns the record of two answers of which one, or the prompt, is an array of messages. */
function conversations({ prompt, chosen, rejected, tools }: Record<string, unknown>): PreferenceRecord {
  // A text answers a prompt of messages. Otherwise both answers must be messages.
  if (!Array.isArray(prompt)) {
    checkMessages("chosen", chosen);
    checkMessages("rejected", rejected);
  }
  const better = exchangeOf(prompt, "chosen", chosen);
  const worse = exchangeOf(prompt, "rejected", rejected);
  const common = { tools: toolsOf(tools) };
  if (isDeepStrictEqual(better.prompt, worse.prompt))
    return { prompt: better.prompt, chosen: better.answer, rejected: worse.answer, ...common };
  const whole = (exchange: Exchange): ChatMessage[] => [...exchange.prompt, ...exchange.answer];
  return { prompt: [], chosen: whole(better), rejected: whole(worse), ...common };
}

/** Returns the fields of a record, with the text under the name `text`. Empty cells of a table are left out. */
function fieldsOf(value: unknown, textColumn: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new HeedError("ERR_FORMAT", `expected an object, got ${describe(value)}`);
  const fields: Record<string, unknown> = {};
  for (const name of recordColumns) {
    const field = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
    if (field !== undefined && field !== null) fields[name] = field;
  }
  const text = Object.hasOwn(value, textColumn) ? (value as Record<string, unknown>)[textColumn] : undefined;
  if (text !== undefined && text !== null) fields.text = text;
  return fields;
}

/** Returns the kind of the data set that a record suggests. */
export function kindOf(record: DataRecord): DataKind {
  return "chosen" in record ? "preference" : "text" in record ? "text" : "examples";
}

/**
 * Checks that a record belongs into a data set.
 *
 * @throws ERR_FORMAT if it does not.
 */
export function checkKind(record: DataRecord, kind: DataKind): void {
  const found = kindOf(record);
  if (found === kind || (kind === "examples" && found === "text")) return;
  const names = { text: "a text", examples: "a completion or a conversation", preference: "a pair of answers" };
  const reader = found === "preference" ? ", which readPairs() and heed train --preference take" : "";
  throw new HeedError("ERR_FORMAT", `expected ${names[kind]} in data of kind "${kind}", got ${names[found]}${reader}`);
}
