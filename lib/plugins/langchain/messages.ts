// Turns messages of LangChain into those of a conversation, and answers into messages of LangChain.
import {
  AIMessage,
  AIMessageChunk,
  type AIMessageFields,
  type BaseMessage,
  ChatMessage as GenericMessage,
  ToolMessage,
} from "@langchain/core/messages";
import { HeedError } from "../../util/errors.js";
import type { GenerationResult } from "../../generate/generation.js";
import type { ChatMessage } from "../../tokenizer/chat-template.js";
import type { ToolCallDelta } from "../../tokenizer/tools.js";

/**
 * Returns a message of a conversation.
 *
 * @throws ERR_ARGUMENT if the message contains something else than text, reasoning and calls of tools.
 */
export function messageOf(message: BaseMessage): ChatMessage {
  const content = textOf(message);
  const named = { ...(message.name !== undefined && { name: message.name }) };
  if (AIMessage.isInstance(message)) {
    const reasoning = message.additional_kwargs.reasoning_content;
    const calls = message.tool_calls ?? [];
    return {
      // LangChain writes an empty text where there is none.
      ...{ role: "assistant", content: content === "" && calls.length > 0 ? null : content, ...named },
      ...(typeof reasoning === "string" && { reasoning }),
      ...(calls.length > 0 && {
        toolCalls: calls.map(({ id = "", name, args }) => ({ id, name, arguments: JSON.stringify(args) })),
      }),
    };
  }
  if (ToolMessage.isInstance(message)) return { role: "tool", content, ...named, toolCallId: message.tool_call_id };
  if (GenericMessage.isInstance(message)) return { role: message.role, content, ...named };
  return { role: roles[message.type] ?? message.type, content, ...named };
}

const roles: Readonly<Record<string, string>> = { human: "user", system: "system", developer: "system" };

/** Returns the text of a message. Other fields of an assistant's message hold its calls and its reasoning. */
function textOf({ content, type: author }: BaseMessage): string {
  if (typeof content === "string") return content;
  return content
    .map((block) => {
      if (block.type === "text") return (block as { text: string }).text;
      if (author === "ai" && (block.type === "reasoning" || block.type === "tool_call")) return "";
      throw new HeedError(
        "ERR_ARGUMENT",
        `ChatHeed: expected the blocks of a message to be texts, got one of type ${JSON.stringify(block.type)}`,
      );
    })
    .join("");
}

/** Parts of an answer, of which a message is made. */
export interface AnswerParts {
  text?: string;
  reasoning?: string | undefined;
  toolCalls?: readonly ToolCallDelta[] | undefined;
  /** The whole result, at its end. */
  end?: { result: GenerationResult; model: string };
}

/** Returns a part of an answer; parts can be added with `concat`. */
export function chunkOf(parts: AnswerParts): AIMessageChunk {
  const { toolCalls = [] } = parts;
  const calls = toolCalls.map(({ index, id, name, arguments: args }) => ({
    ...{ type: "tool_call_chunk" as const, index, args },
    ...(id !== undefined && { id }),
    ...(name !== undefined && { name }),
  }));
  return new AIMessageChunk({ ...fieldsOf(parts), tool_call_chunks: calls });
}

/** Returns a whole answer. A call whose arguments are no JSON, because the answer was cut, counts as invalid. */
export function answerOf(result: GenerationResult, model: string): AIMessage {
  const { text, reasoning, toolCalls = [] } = result;
  const calls = toolCalls.map((call) => ({ ...call, args: parsed(call.arguments) }));
  const valid = calls.filter(({ args }) => args !== null);
  const invalid = calls.filter(({ args }) => args === null);
  return new AIMessage({
    ...fieldsOf({ text, reasoning, end: { result, model } }),
    tool_calls: valid.map(({ id, name, args }) => ({ type: "tool_call", id, name, args: args! })),
    invalid_tool_calls: invalid.map(({ id, name, arguments: args }) => ({
      ...{ type: "invalid_tool_call", id, name, args, error: "The arguments are no JSON object." },
    })),
  });
}

/** Returns the arguments of a call, or null if they are no JSON object. */
function parsed(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown> | null) : null;
  } catch {
    return null;
  }
}

/** Returns what messages and parts of them have in common. */
function fieldsOf({ text = "", reasoning, end }: AnswerParts): AIMessageFields {
  const fields: AIMessageFields = { content: text };
  // LangChain has no other place for the reasoning beside a content that is a string.
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  if (reasoning) fields.additional_kwargs = { reasoning_content: reasoning };
  if (!end) return fields;
  const { usage, finishReason } = end.result;
  const { promptTokens: input, cachedTokens, completionTokens: output } = usage;
  return Object.assign(fields, {
    response_metadata: { model_name: end.model, finish_reason: finishReason },
    usage_metadata: {
      ...{ input_tokens: input, output_tokens: output, total_tokens: input + output },
      input_token_details: { cache_read: cachedTokens },
    },
  });
}
