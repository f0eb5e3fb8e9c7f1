// The messages of a conversation in OpenAI's form.
import type { ChatMessage } from "../tokenizer/chat-template.js";
import type { ToolCall } from "../tokenizer/tools.js";
import { inputName } from "../structured/tool-input.js";
import { ApiError } from "./api-error.js";
import {
  mostItems,
  mostTokens,
  nameSchema,
  object,
  optional,
  type Schema,
  textSchema,
  unread,
  unsupported,
} from "./json-schema.js";

/** A message, whose content is a text or parts of it. */
export interface MessageParameter {
  role: "developer" | "system" | "user" | "assistant" | "tool";
  content?: string | readonly { text: string }[] | null;
  name?: string | null;
  tool_calls?: readonly ToolCallParameter[] | null;
  tool_call_id?: string | null;
  reasoning_content?: string | null;
  /** vLLM's and OpenRouter's name of it. */
  reasoning?: string | null;
}

/** A call of a tool in a message. */
export interface ToolCallParameter {
  id: string;
  function?: { name: string; arguments: string };
  /** Call of a custom tool. */
  custom?: { name: string; input: string };
}

/** Returns the schema of a message's content: a text, or parts of these types. */
export function contentSchema(...types: readonly string[]): Schema {
  const others = {
    ...{ image_url: unsupported(), input_audio: unsupported(), file: unsupported(), refusal: unsupported() },
    // Parts of earlier answers have these fields, and OpenAI's client adds what it has made of them.
    ...{ annotations: unsupported([]), logprobs: unsupported([]), parsed: unread },
  };
  const part = object({ type: { type: "string", enum: types }, text: textSchema, ...others }, ["type"]);
  return {
    anyOf: [
      textSchema,
      {
        type: "array",
        maxItems: mostItems,
        items: { ...part, if: { properties: { type: { enum: types } } }, then: { required: ["text"] } },
      },
    ],
    description: "a text, or an array of parts that are texts",
  };
}

export const rolesSchema: Schema = { type: "string", enum: ["developer", "system", "user", "assistant"] };

const toolCallSchema = object(
  {
    id: nameSchema,
    type: { type: "string", enum: ["function", "custom"] },
    custom: object({ name: nameSchema, input: textSchema }, ["name", "input"]),
    // OpenAI's client adds the arguments as an object.
    function: object({ name: nameSchema, arguments: textSchema, parsed_arguments: unread }, [...["name", "arguments"]]),
    index: { type: "integer", minimum: 0, maximum: mostTokens },
  },
  ["id"],
);

export const messagesSchema: Schema = {
  type: "array",
  ...{ minItems: 1, maxItems: mostItems },
  "x-cost": "they are written as one text by the chat template, within the context",
  items: object(
    {
      role: { type: "string", enum: [...(rolesSchema.enum as string[]), "tool"] },
      content: optionalContent(contentSchema("text")),
      name: optional(nameSchema),
      // Clients send back the messages of earlier answers, which have these fields.
      refusal: unsupported(),
      annotations: unsupported([]),
      audio: unsupported(),
      tool_calls: optional({ type: "array", maxItems: 1024, items: toolCallSchema }),
      tool_call_id: optional(nameSchema),
      reasoning_content: optional(textSchema),
      reasoning: optional(textSchema),
      function_call: unsupported(),
      parsed: unread,
    },
    ["role"],
  ),
};

/** Returns the messages for a chat template. Templates know the role "system", which OpenAI now calls "developer". */
export function chatMessages(messages: readonly MessageParameter[]): ChatMessage[] {
  return messages.map(({ role, content, name, ...rest }, i) => {
    const calls = rest.tool_calls ?? [];
    const thought = rest.reasoning_content ?? rest.reasoning;
    // An answer may be empty, as one that was cut off is.
    const isEmpty = calls.length === 0 && typeof content !== "string" && !content;
    if (isEmpty && role !== "assistant")
      throw new ApiError(400, `Missing parameter: "messages.${i}.content".`, {
        ...{ param: `messages.${i}.content`, code: "missing_required_parameter" },
      });
    return {
      role: role === "developer" ? "system" : role,
      // Templates tell a message without text from one whose text is empty.
      content:
        typeof content === "string" ? content : (content?.map(({ text }) => text).join("\n") ?? (isEmpty ? "" : null)),
      ...(typeof name === "string" && { name }),
      ...(calls.length > 0 && {
        toolCalls: calls.map((call, at) => toolCallOf(call, `messages.${i}.tool_calls.${at}`)),
      }),
      ...(typeof rest.tool_call_id === "string" && { toolCallId: rest.tool_call_id }),
      ...(typeof thought === "string" && { reasoning: thought }),
    };
  });
}

function toolCallOf({ id, function: called, custom }: ToolCallParameter, place: string): ToolCall {
  if (called) return { id, name: called.name, arguments: called.arguments };
  if (custom) return { id, name: custom.name, arguments: JSON.stringify({ [inputName]: custom.input }) };
  throw new ApiError(400, `Missing parameter: "${place}.function".`, {
    ...{ param: `${place}.function`, code: "missing_required_parameter" },
  });
}

/** Returns the schema of content that a message with calls of tools need not have. */
function optionalContent(schema: Schema): Schema {
  return { ...schema, anyOf: [...(schema.anyOf as Schema[]), { type: "null" }] };
}
