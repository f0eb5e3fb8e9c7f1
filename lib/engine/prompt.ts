import { checkBoolean } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { encodePrompt } from "../generate/generate-text.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { encodeConversation } from "../structured/conversation.js";
import { choosable } from "../tokenizer/tools.js";
import { warnOnce } from "../util/warn-once.js";
import type { EngineRequest } from "./engine-request.js";

/** Note for whoever runs a model that is told of its tools in a form that it may not have learnt. */
export const describedToolsNote =
  "the chat template shows the model no such tools: they are described in the system message, and called in a general form";

/**
 * Returns a function that returns the tokens of a request's prompt.
 *
 * @throws ERR_ARGUMENT if the request has no prompt or several, or the tokenizer cannot encode it.
 */
export function promptOf(
  { prompt, tokens, messages, tools, toolChoice, variables, rawControlTokens = false, signal }: EngineRequest,
  tokenizer: Tokenizer | null,
): () => Int32Array | Promise<Int32Array> {
  const given = Object.entries({ prompt, tokens, messages }).filter(([, value]) => value !== undefined);
  if (given.length !== 1)
    throw new HeedError(
      "ERR_ARGUMENT",
      `generate: expected one of prompt, tokens and messages, got ${given.map(([name]) => name).join(" and ") || "none"}`,
    );
  if (tokens !== undefined) {
    const list = Int32Array.from(tokens);
    return () => list;
  }
  if (!tokenizer)
    throw new HeedError(
      "ERR_ARGUMENT",
      `generate: expected tokens, since the engine has no tokenizer, got ${prompt === undefined ? "messages" : "a prompt"}`,
    );
  if (messages !== undefined) {
    const chat = chatTokenizer(tokenizer);
    checkBoolean("generate", "rawControlTokens", rawControlTokens);
    return async () => {
      const { shown } = choosable(tools ?? [], toolChoice ?? "auto");
      const options = { variables: variables ?? {}, rawControlTokens, signal };
      const { tokens, describesTools } = await encodeConversation(chat, messages, shown, options);
      if (describesTools) warnOnce("HEED_TOOLS", describedToolsNote);
      return tokens;
    };
  }
  if (typeof prompt !== "string")
    throw new HeedError("ERR_ARGUMENT", `generate: expected prompt to be a string, got ${describe(prompt)}`);
  return () => encodePrompt(tokenizer, prompt);
}

/**
 * Returns a tokenizer that has a chat template.
 *
 * @throws ERR_ARGUMENT if this one has none.
 */
export function chatTokenizer(tokenizer: Tokenizer | null): HuggingFaceTokenizer {
  if (tokenizer instanceof HuggingFaceTokenizer && tokenizer.chatTemplate) return tokenizer;
  throw new HeedError("ERR_ARGUMENT", "generate: expected a model with a chat template for messages, got one without");
}
