// POST /v1/chat/completions: answers a conversation.
import { randomUUID } from "node:crypto";
import { type Answer, Answers } from "./answers.js";
import { chatMessages, type MessageParameter, messagesSchema } from "./chat-messages.js";
import { endpoint, EventStream, type StreamEvent } from "./endpoint.js";
import { object, optional, unsupported } from "./json-schema.js";
import { ignoredSchemas, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js";
import { modelSchema, streams, streamSchemas, type StreamParameters, usageOf } from "./shared-parameters.js";

interface Body extends SamplingParameters, StreamParameters {
  model?: string | null;
  messages: MessageParameter[];
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
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
    n: unsupported(1),
    logprobs: unsupported(false),
    top_logprobs: unsupported(0),
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
    const tokens = await served.chatTokens(chatMessages(body.messages));
    const given = body.max_completion_tokens ?? body.max_tokens;
    const param = typeof body.max_completion_tokens === "number" ? "max_completion_tokens" : "max_tokens";
    const room = Math.min(served.contextLength, call.limits.maxTokens ?? Infinity);
    const options = samplingOptions(body, { maxTokens: given ?? room, param }, call.limits);
    const answers = await Answers.begin("chat", served, call, [tokens], options);
    const head = { id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: served.id };
    if (streamed) return new EventStream(events(head, answers, streamed), "[DONE]");
    const choices = (await answers.all()).map(choiceOf);
    return { ...head, object: "chat.completion", choices, usage: usageOf(answers.usage) };
  },
});

function choiceOf({ text, finishReason }: Answer, index: number): object {
  const message = { role: "assistant", content: text, refusal: null };
  return { index, message, logprobs: null, finish_reason: finishReason };
}

async function* events(
  head: object,
  answers: Answers,
  { usage }: { usage: boolean },
): AsyncGenerator<StreamEvent, void, undefined> {
  const chunk = (index: number, delta: object, finishReason: string | null): StreamEvent => {
    const choices = [{ index, delta, logprobs: null, finish_reason: finishReason }];
    return { data: { ...head, object: "chat.completion.chunk", choices, ...(usage && { usage: null }) } };
  };
  const begun = new Set<number>();
  for await (const { index, text, finishReason } of answers.parts()) {
    if (!begun.has(index)) yield chunk(index, { role: "assistant", content: "" }, null);
    begun.add(index);
    if (text !== "") yield chunk(index, { content: text }, null);
    if (finishReason) yield chunk(index, {}, finishReason);
  }
  if (usage) yield { data: { ...head, object: "chat.completion.chunk", choices: [], usage: usageOf(answers.usage) } };
}
