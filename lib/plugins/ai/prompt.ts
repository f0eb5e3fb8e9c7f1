// Turns a prompt of the AI SDK into the messages of a conversation.
import type { LanguageModelV3Message, LanguageModelV3Prompt, LanguageModelV3ToolResultPart } from "@ai-sdk/provider";
import { HeedError } from "../../util/errors.js";
import type { ChatMessage } from "../../tokenizer/chat-template.js";

type AssistantPart = (LanguageModelV3Message & { role: "assistant" })["content"][number];

/**
 * Returns the messages of a prompt.
 *
 * @throws ERR_ARGUMENT if the prompt contains a file, or the result of a tool that a provider has run.
 */
export function messagesOf(prompt: LanguageModelV3Prompt): ChatMessage[] {
  return prompt.flatMap((message): ChatMessage[] => {
    switch (message.role) {
      case "system":
        return [{ role: "system", content: message.content }];
      case "user":
        return [{ role: "user", content: textsOf(message.content, "a user's message") }];
      case "assistant":
        return [assistantMessage(message.content)];
      case "tool":
        // What users approve or deny is the AI SDK's affair: it leads to a result of the tool.
        return message.content.flatMap((part) => (part.type === "tool-result" ? [toolMessage(part)] : []));
    }
  });
}

function assistantMessage(parts: readonly AssistantPart[]): ChatMessage {
  const reasoning = parts.filter((part) => part.type === "reasoning");
  const calls = parts.filter((part) => part.type === "tool-call");
  const texts = parts.filter((part) => part.type !== "reasoning" && part.type !== "tool-call");
  return {
    role: "assistant",
    // Templates tell a message without text from one whose text is empty.
    content: texts.length === 0 && calls.length > 0 ? null : textsOf(texts, "an assistant's message"),
    ...(reasoning.length > 0 && { reasoning: reasoning.map(({ text }) => text).join("") }),
    ...(calls.length > 0 && {
      toolCalls: calls.map(({ toolCallId: id, toolName: name, input }) => ({
        ...{ id, name, arguments: JSON.stringify(input) },
      })),
    }),
  };
}

function toolMessage({ toolCallId, toolName, output }: LanguageModelV3ToolResultPart): ChatMessage {
  return { role: "tool", name: toolName, toolCallId, content: outputOf(output) };
}

function outputOf(output: LanguageModelV3ToolResultPart["output"]): string {
  switch (output.type) {
    case "text":
    case "error-text":
      return output.value;
    case "json":
    case "error-json":
      return JSON.stringify(output.value);
    case "execution-denied":
      return output.reason ?? "The user has not allowed this call.";
    case "content":
      return textsOf(output.value, "a tool's result");
  }
}

/** Returns the text of parts, all of which must be texts. */
function textsOf(parts: readonly { type: string }[], place: string): string {
  return parts
    .map((part) => {
      if (part.type === "text") return (part as { type: "text"; text: string }).text;
      throw new HeedError(
        "ERR_ARGUMENT",
        `heed: expected the parts of ${place} to be texts, got one of type "${part.type}"`,
      );
    })
    .join("");
}
