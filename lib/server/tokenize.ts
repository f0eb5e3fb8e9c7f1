// POST /tokenize: the tokens of a text or of a conversation, as the model gets them; POST /detokenize: the text of tokens.
import { chatMessages, type MessageParameter, messagesSchema } from "./chat-messages.js";
import { ApiError } from "./api-error.js";
import { endpoint } from "./endpoint.js";
import { shownToken } from "./logprobs.js";
import { object, optional, textSchema, tokensSchema } from "./json-schema.js";
import { conversationEnd, templateSchemas } from "./template-variables.js";
import { modelSchema } from "./shared-parameters.js";

interface Body {
  model?: string | null;
  prompt?: string;
  /** llama.cpp's name of the prompt. */
  content?: string;
  messages?: MessageParameter[];
  add_generation_prompt?: boolean | null;
  continue_final_message?: boolean | null;
  add_special_tokens?: boolean | null;
  return_token_strs?: boolean | null;
}

export const tokenize = endpoint<Body>({
  url: "/tokenize",
  summary: "Turn a text or a conversation into tokens",
  schema: object({
    ...{ model: modelSchema, prompt: textSchema, content: textSchema, messages: messagesSchema },
    add_special_tokens: optional({
      type: "boolean",
      description: "Add the tokens that begin and end a text; if false, the names of such tokens stand for them.",
    }),
    add_generation_prompt: templateSchemas.add_generation_prompt,
    continue_final_message: templateSchemas.continue_final_message,
    return_token_strs: optional({ type: "boolean", description: "Give the texts of the tokens as well." }),
  }),
  async run({ model, content, prompt = content, messages, ...options }, call) {
    const served = call.models.language(model, call.releases);
    if ((prompt === undefined) === (messages === undefined))
      throw new ApiError(400, "Expected one of prompt and messages.", { param: "prompt", code: "invalid_value" });
    const tokens =
      prompt === undefined
        ? await served.chatTokens(chatMessages(messages!), "messages", conversationEnd(options), call)
        : await served.textTokens(prompt, options.add_special_tokens !== false);
    const { tokenizer } = served;
    return {
      ...{ tokens: [...tokens], count: tokens.length, max_model_len: served.contextLength },
      ...(options.return_token_strs && {
        token_strs: Array.from(tokens, (token) => shownToken(tokenizer, token).text),
      }),
    };
  },
});

export const detokenize = endpoint<{ model?: string | null; tokens: number[] }>({
  url: "/detokenize",
  summary: "Turn tokens into a text",
  schema: object({ model: modelSchema, tokens: { ...tokensSchema, minItems: 0 } }, ["tokens"]),
  async run({ model, tokens }, call) {
    const { tokenizer } = call.models.language(model, call.releases);
    const most = tokenizer.vocabularySize - 1;
    const wrong = tokens.findIndex((token) => token > most);
    if (wrong >= 0) {
      const text = `tokens.${wrong}: expected a token from 0 to ${most}, got ${tokens[wrong]}.`;
      throw new ApiError(400, text, { param: `tokens.${wrong}`, code: "invalid_value" });
    }
    return Promise.resolve({ prompt: tokenizer.decode(tokens), content: tokenizer.decode(tokens) });
  },
});
