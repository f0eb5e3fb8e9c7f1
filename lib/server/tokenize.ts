// POST /tokenize: the tokens of a text or of a conversation, as the model gets them.
import { chatMessages, type MessageParameter, messagesSchema } from "./chat-messages.js";
import { ApiError } from "./api-error.js";
import { endpoint } from "./endpoint.js";
import { object, textSchema } from "./json-schema.js";
import { modelSchema } from "./shared-parameters.js";

interface Body {
  model?: string | null;
  prompt?: string;
  messages?: MessageParameter[];
}

export const tokenize = endpoint<Body>({
  url: "/tokenize",
  summary: "Turn a text or a conversation into tokens",
  schema: object({ model: modelSchema, prompt: textSchema, messages: messagesSchema }),
  async run({ model, prompt, messages }, call) {
    const served = call.models.language(model, call.releases);
    if ((prompt === undefined) === (messages === undefined))
      throw new ApiError(400, "Expected one of prompt and messages.", { param: "prompt", code: "invalid_value" });
    const tokens =
      prompt === undefined
        ? await served.chatTokens(chatMessages(messages!), "messages", [], call.signal)
        : await served.textTokens(prompt);
    return { tokens: [...tokens], count: tokens.length, max_model_len: served.contextLength };
  },
});
