// The messages of a conversation in OpenAI's form.
import type { ChatMessage } from "../tokenizer/chat-template.js";
import { object, optional, type Schema, unsupported } from "./json-schema.js";

/** A message, whose content is a text or parts of it. */
export interface MessageParameter {
  role: "developer" | "system" | "user" | "assistant";
  content: string | readonly { text: string }[];
  name?: string | null;
}

/** Returns the schema of a message's content: a text, or parts of these types. */
export function contentSchema(...types: readonly string[]): Schema {
  const others = {
    ...{ image_url: unsupported(), input_audio: unsupported(), file: unsupported(), refusal: unsupported() },
    // Parts of earlier answers have these fields.
    ...{ annotations: unsupported([]), logprobs: unsupported([]) },
  };
  const part = object({ type: { type: "string", enum: types }, text: { type: "string" }, ...others }, ["type"]);
  return {
    anyOf: [
      { type: "string" },
      {
        type: "array",
        minItems: 1,
        items: { ...part, if: { properties: { type: { enum: types } } }, then: { required: ["text"] } },
      },
    ],
    description: "a text, or an array of parts that are texts",
  };
}

export const rolesSchema: Schema = { type: "string", enum: ["developer", "system", "user", "assistant"] };

export const messagesSchema: Schema = {
  type: "array",
  minItems: 1,
  items: object(
    {
      role: rolesSchema,
      content: contentSchema("text"),
      name: optional({ type: "string" }),
      // Clients send back the messages of earlier answers, which have these fields.
      refusal: unsupported(),
      annotations: unsupported([]),
      audio: unsupported(),
      tool_calls: unsupported([]),
      function_call: unsupported(),
    },
    ["role", "content"],
  ),
};

/** Returns the messages for a chat template. Templates know the role "system", which OpenAI now calls "developer". */
export function chatMessages(messages: readonly MessageParameter[]): ChatMessage[] {
  return messages.map(({ role, content, name }) => ({
    role: role === "developer" ? "system" : role,
    content: typeof content === "string" ? content : content.map(({ text }) => text).join(""),
    ...(typeof name === "string" && { name }),
  }));
}
