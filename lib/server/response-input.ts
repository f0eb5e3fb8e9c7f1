// The input of a response: messages, and calls of functions with their results.
import { contentSchema, type MessageParameter, rolesSchema } from "./chat-messages.js";
import {
  mostItems,
  nameSchema,
  object,
  optional,
  type Schema,
  textSchema,
  unread,
  unsupported,
} from "./json-schema.js";

/** A message, a call of a function, its result, or reasoning of an earlier answer. */
export type InputItem =
  | (MessageParameter & { type?: "message" })
  | { type: "function_call"; call_id: string; name: string; arguments: string }
  | { type: "function_call_output"; call_id: string; output: string | { text: string }[] }
  | { type: "reasoning"; content?: { text: string }[] | null };

// Clients send back the items of earlier answers, which have these fields.
const earlier = { id: optional(nameSchema), status: optional(nameSchema) };
const text = textSchema;

const kind = (name: string): Schema => ({ type: "string", enum: [name] });
const items: Readonly<Record<string, Schema>> = {
  message: object(
    { type: kind("message"), role: rolesSchema, content: contentSchema("input_text", "output_text"), ...earlier },
    ["role", "content"],
  ),
  function_call: object(
    {
      type: kind("function_call"),
      call_id: nameSchema,
      name: nameSchema,
      arguments: text,
      parsed_arguments: unread,
      ...earlier,
    },
    ["type", "call_id", "name", "arguments"],
  ),
  function_call_output: object(
    { type: kind("function_call_output"), call_id: nameSchema, output: contentSchema("input_text"), ...earlier },
    ["type", "call_id", "output"],
  ),
  reasoning: object(
    {
      // Summaries and encrypted contents are of other servers' models.
      ...{ type: kind("reasoning"), summary: unsupported([]), encrypted_content: unsupported(""), ...earlier },
      content: optional({ type: "array", maxItems: mostItems, items: object({ type: nameSchema, text }, ["text"]) }),
    },
    ["type"],
  ),
};

/** Schemas of the items by their type, so that an error is about the item that was meant. */
const item: Schema = {
  type: "object",
  properties: { type: { type: "string", enum: Object.keys(items) } },
  allOf: Object.entries(items).map(([name, schema]) => ({
    if: { properties: { type: { const: name } }, ...(name !== "message" && { required: ["type"] }) },
    then: schema,
  })),
};

export const inputSchema: Schema = {
  anyOf: [textSchema, { type: "array", minItems: 1, maxItems: mostItems, items: item }],
  "x-cost": "it is written as one text by the chat template, within the context",
  description: "a text, or an array of messages, calls of functions and their results",
};

/** Returns the input as the messages of a conversation: the calls of an answer belong to one message. */
export function inputMessages(input: string | readonly InputItem[], instructions: string | null): MessageParameter[] {
  const messages: MessageParameter[] = instructions === null ? [] : [{ role: "system", content: instructions }];
  if (typeof input === "string") return [...messages, { role: "user", content: input }];
  // What belongs to the answer whose items come now.
  let answer: MessageParameter | null = null;
  const answering = (): MessageParameter => {
    if (!answer) messages.push((answer = { role: "assistant", content: null }));
    return answer;
  };
  for (const one of input) {
    if (one.type === "function_call") {
      const { call_id: id, name, arguments: given } = one;
      const current = answering();
      current.tool_calls = [...(current.tool_calls ?? []), { id, function: { name, arguments: given } }];
    } else if (one.type === "reasoning") {
      answer = null;
      const thought = (one.content ?? []).map((part) => part.text).join("");
      if (thought !== "") answering().reasoning_content = thought;
    } else if (one.type === "function_call_output") {
      answer = null;
      messages.push({ role: "tool", content: one.output, tool_call_id: one.call_id });
    } else if (one.role === "assistant") {
      const current: MessageParameter | null = answer;
      if (current?.content === null) current.content = one.content ?? "";
      else messages.push((answer = { role: one.role, content: one.content ?? "" }));
    } else {
      answer = null;
      messages.push({ role: one.role, content: one.content ?? "" });
    }
  }
  // Reasoning alone, without calls, is an answer whose text is empty.
  for (const message of messages) if (!message.tool_calls) message.content ??= "";
  return messages;
}
