// The input of a response: messages, and calls of functions and custom tools with their results.
import { randomUUID } from "node:crypto";
import { describe } from "../util/errors.js";
import { inputName } from "../structured/tool-input.js";
import { ApiError } from "./api-error.js";
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
  | { type: "custom_tool_call"; call_id: string; name: string; input: string }
  | { type: "custom_tool_call_output"; call_id: string; output: string | { text: string }[] }
  | { type: "item_reference"; id: string }
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
  custom_tool_call: object(
    { type: kind("custom_tool_call"), call_id: nameSchema, name: nameSchema, input: text, ...earlier },
    [...["type", "call_id", "name", "input"]],
  ),
  custom_tool_call_output: object(
    { type: kind("custom_tool_call_output"), call_id: nameSchema, output: contentSchema("input_text"), ...earlier },
    ["type", "call_id", "output"],
  ),
  item_reference: object({ type: kind("item_reference"), id: nameSchema }, ["id"]),
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
export function inputMessages(input: readonly InputItem[], instructions: string | null): MessageParameter[] {
  const messages: MessageParameter[] = instructions === null ? [] : [{ role: "system", content: instructions }];
  // What belongs to the answer whose items come now.
  let answer: MessageParameter | null = null;
  const answering = (): MessageParameter => {
    if (!answer) messages.push((answer = { role: "assistant", content: null }));
    return answer;
  };
  for (const one of input) {
    if (one.type === "function_call" || one.type === "custom_tool_call") {
      const { call_id: id, name } = one;
      const given = one.type === "function_call" ? one.arguments : JSON.stringify({ [inputName]: one.input });
      const current = answering();
      current.tool_calls = [...(current.tool_calls ?? []), { id, function: { name, arguments: given } }];
    } else if (one.type === "reasoning") {
      answer = null;
      const thought = (one.content ?? []).map((part) => part.text).join("");
      if (thought !== "") answering().reasoning_content = thought;
    } else if (one.type === "function_call_output" || one.type === "custom_tool_call_output") {
      answer = null;
      messages.push({ role: "tool", content: one.output, tool_call_id: one.call_id });
    } else if (one.type === "item_reference") {
      throw new Error("a reference that has not been resolved");
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

/** Returns a new id for an item of a type. */
export function itemId(type: string): string {
  return `${prefixes[type]}_${randomUUID()}`;
}

const prefixes: Readonly<Record<string, string>> = {
  ...{ message: "msg", reasoning: "rs", function_call: "fc", function_call_output: "fco" },
  ...{ custom_tool_call: "ctc", custom_tool_call_output: "ctco" },
};

/** Responses of earlier requests, as a `ResponseStore` keeps them for each client. */
interface StoredItems {
  readonly keeps: boolean;
  get(owner: string | null, id: string): { input: readonly InputItem[]; output: readonly InputItem[] } | null;
  item(owner: string | null, id: string): InputItem | null;
}

/**
 * Returns all items of a conversation with their ids: those of the stored response that it goes on from, and its own.
 *
 * @throws An `ApiError` if there are none, or there is no such response.
 */
export function conversationItems(
  input: string | readonly InputItem[] | null,
  previous: string | null,
  { responses, owner }: { readonly responses: StoredItems; readonly owner: string | null },
): InputItem[] {
  const stored = previous === null ? null : responses.get(owner, previous);
  if (previous !== null && !stored) {
    const hint = responses.keeps ? "It may have been dropped for later ones." : "This server stores no responses.";
    throw new ApiError(400, `Previous response with id ${describe(previous)} not found. ${hint}`, {
      ...{ param: "previous_response_id", code: "previous_response_not_found" },
    });
  }
  if (input === null && !stored)
    throw new ApiError(400, 'Missing parameter: "input".', { param: "input", code: "missing_required_parameter" });
  const given: readonly InputItem[] =
    typeof input === "string"
      ? [{ role: "user", content: [{ type: "input_text", text: input }] } as unknown as InputItem]
      : (input ?? []);
  const own = given.map((item, i): InputItem => {
    if (item.type !== "item_reference") return withId(item);
    const found = responses.item(owner, item.id);
    if (found) return found;
    throw new ApiError(404, `Item with id ${describe(item.id)} not found among the stored responses.`, {
      ...{ param: `input.${i}.id`, code: "item_not_found" },
    });
  });
  return [...(stored?.input ?? []), ...(stored?.output ?? []), ...own];
}

/** Returns an item with an id, and with the fields that OpenAI's have. */
function withId(item: InputItem): InputItem {
  const type = item.type ?? "message";
  const { id, status } = item as { id?: string | null; status?: string | null };
  const content =
    type === "message" && "content" in item && typeof item.content === "string"
      ? {
          content: [
            { type: "role" in item && item.role === "assistant" ? "output_text" : "input_text", text: item.content },
          ],
        }
      : {};
  return {
    ...item,
    type,
    id: id ?? itemId(type),
    status: status ?? "completed",
    ...content,
  } as unknown as InputItem;
}
