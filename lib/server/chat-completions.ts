// POST /v1/chat/completions: answers a conversation.
import { randomUUID } from "node:crypto";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type Answer, Answers, type Part } from "./answers.js";
import { ApiError } from "./api-error.js";
import { chatMessages, type MessageParameter, messagesSchema } from "./chat-messages.js";
import { endpoint, EventStream, type StreamEvent } from "./endpoint.js";
import { object, optional, unsupported } from "./json-schema.js";
import { chatLogprobs } from "./logprobs.js";
import { ignoredSchemas, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js";
import { modelSchema, streams, streamSchemas, type StreamParameters, usageOf } from "./shared-parameters.js";

interface Body extends SamplingParameters, StreamParameters {
  model?: string | null;
  messages: MessageParameter[];
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
}

const limit = (description: string) => optional({ type: "integer", minimum: 1, description });

const schema = object(
  {
    model: modelSchema,
    messages: messagesSchema,
    max_completion_tokens: limit("Largest number of tokens to generate; all that fit into the context by default."),
    max_tokens: limit("The older name of max_completion_tokens."),
    ...samplingSchemas,
    ...streamSchemas,
    ...ignoredSchemas,
    logprobs: optional({ type: "boolean", description: "Give the log-probabilities of the tokens." }),
    top_logprobs: optional({
      ...{ type: "integer", minimum: 0, maximum: 20 },
      description: "Number of the most likely tokens at each place to give the log-probabilities of.",
    }),
    tools: unsupported([]),
    tool_choice: unsupported("none", "auto"),
    parallel_tool_calls: unsupported(true, false),
    functions: unsupported([]),
    function_call: unsupported("none", "auto"),
    response_format: unsupported({ type: "text" }),
    modalities: unsupported(["text"]),
    audio: unsupported(),
    prediction: unsupported(),
    reasoning_effort: unsupported("none"),
    verbosity: unsupported("medium"),
    web_search_options: unsupported(),
    service_tier: unsupported("auto", "default"),
    store: unsupported(false),
    metadata: unsupported({}),
  },
  ["messages"],
);

export const chatCompletions = endpoint<Body>({
  url: "/v1/chat/completions",
  summary: "Answer a conversation",
  schema,
  async run(body, call) {
    const served = call.models.language(body.model);
    const streamed = streams(body);
    const tokens = await served.chatTokens(chatMessages(body.messages), "messages");
    const given = body.max_completion_tokens ?? body.max_tokens;
    const param = typeof body.max_completion_tokens === "number" ? "max_completion_tokens" : "max_tokens";
    const room = Math.min(served.contextLength, call.limits.maxTokens ?? Infinity);
    const options = samplingOptions(body, { maxTokens: given ?? room, param, logprobs: logprobsOf(body) }, call.limits);
    const answers = await Answers.begin("chat", served, call, [tokens], options);
    const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: served.id };
    if (streamed) return new EventStream(events(head, served.tokenizer, answers, streamed), "[DONE]");
    const choices = (await answers.all()).map((answer, i) => choiceOf(answer, i, served.tokenizer));
    return { ...head, object: "chat.completion", choices, usage: usageOf(answers.usage) };
  },
});

/** Returns how many log-probabilities the engine gives besides those of the generated tokens, or null for none. */
function logprobsOf({ logprobs, top_logprobs: top }: Body): number | null {
  if (logprobs) return top ?? 0;
  if (!top) return null;
  throw new ApiError(400, "top_logprobs: expected logprobs to be true.", {
    ...{ param: "top_logprobs", code: "invalid_value" },
  });
}

function choiceOf({ text, logprobs, finishReason }: Answer, index: number, tokenizer: Tokenizer): object {
  const message = { role: "assistant", content: text, refusal: null };
  return { index, message, logprobs: chatLogprobs(tokenizer, logprobs), finish_reason: finishReason };
}

async function* events(
  head: object,
  tokenizer: Tokenizer,
  answers: Answers,
  { usage }: { usage: boolean },
): AsyncGenerator<StreamEvent, void, undefined> {
  const chunk = ({ index, logprobs, finishReason }: Part, delta: object): StreamEvent => {
    const choices = [{ index, delta, logprobs: chatLogprobs(tokenizer, logprobs), finish_reason: finishReason }];
    return { data: { ...head, object: "chat.completion.chunk", choices, ...(usage && { usage: null }) } };
  };
  const begun = new Set<number>();
  for await (const part of answers.parts()) {
    const { index, text, logprobs, finishReason } = part;
    if (!begun.has(index)) yield chunk({ index, text: "", finishReason: null }, { role: "assistant", content: "" });
    begun.add(index);
    if (text !== "" || logprobs) yield chunk(part, { content: text });
    else if (finishReason) yield chunk(part, {});
  }
  if (usage) yield { data: { ...head, object: "chat.completion.chunk", choices: [], usage: usageOf(answers.usage) } };
}
