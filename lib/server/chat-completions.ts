// POST /v1/chat/completions: answers a conversation.
import { randomUUID } from "node:crypto";
import type { JsonSchema } from "../util/json-schema.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { choosable, type ToolCall, type ToolCallDelta } from "../tokenizer/tools.js";
import { type Answer, Answers, type Part } from "./answers.js";
import { ApiError } from "./api-error.js";
import { InputReader, inputText } from "./custom-input.js";
import { chatMessages, type MessageParameter, messagesSchema } from "./chat-messages.js";
import { endpoint, EventStream } from "./endpoint.js";
import { choiceEvents, doneText, eventText } from "./event-lines.js";
import { idle, mostTokens, object, optional, unsupported } from "./json-schema.js";
import { chatLogprobs } from "./logprobs.js";
import { ignoredSchemas, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js";
import {
  answerOptions,
  formatSchema,
  type CustomParameter,
  customTools,
  type FunctionParameter,
  jsonSchemaFields,
  type ToolChoiceParameter,
  toolChoiceSchema,
  toolsSchema,
} from "./structured-output.js";
import {
  conversationEnd,
  type TemplateParameters,
  templateSchemas,
  templateVariables,
  thinkingBudget,
} from "./template-variables.js";
import { checkPromptLogprobs, promptLogprobs, scorePrompts } from "./prompt-scores.js";
import {
  fingerprint,
  modelSchema,
  type Streamed,
  streams,
  streamSchemas,
  type StreamParameters,
  type TokenParameters,
  tokenSchemas,
  usageOf,
} from "./shared-parameters.js";

interface Body extends SamplingParameters, StreamParameters, TemplateParameters, TokenParameters {
  model?: string | null;
  messages: MessageParameter[];
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  response_format?:
    { type: "text" | "json_object" } | { type: "json_schema"; json_schema: { schema?: JsonSchema } } | null;
  tools?: ({ type: "function"; function: FunctionParameter } | { type: "custom"; custom: CustomParameter })[] | null;
  tool_choice?: ToolChoiceParameter | null;
  parallel_tool_calls?: boolean | null;
}

const limit = (description: string) =>
  optional({
    type: "integer",
    minimum: 1,
    maximum: mostTokens,
    description,
    "x-cost": "keys and values of each token, within the context",
  });

const schema = object(
  {
    model: modelSchema,
    messages: messagesSchema,
    max_completion_tokens: limit("Largest number of tokens to generate; all that fit into the context by default."),
    max_tokens: limit("The older name of max_completion_tokens."),
    ...samplingSchemas,
    ...streamSchemas,
    ...ignoredSchemas,
    ...templateSchemas,
    ...tokenSchemas,
    logprobs: optional({ type: "boolean", description: "Give the log-probabilities of the tokens." }),
    top_logprobs: optional({
      ...{ type: "integer", minimum: 0, maximum: 20 },
      description: "Number of the most likely tokens at each place to give the log-probabilities of.",
      "x-cost": "as many numbers for each token",
    }),
    tools: toolsSchema(false),
    tool_choice: toolChoiceSchema(false),
    parallel_tool_calls: optional({ type: "boolean", description: "Allow more than one call in an answer." }),
    functions: unsupported([]),
    function_call: unsupported("none", "auto"),
    response_format: formatSchema({ json_schema: object(jsonSchemaFields), schema: unsupported() }, ["json_schema"]),
    modalities: unsupported(["text"]),
    audio: unsupported(),
    prediction: unsupported(),
    verbosity: idle({ type: "string", enum: ["low", "medium", "high", null] }),
    web_search_options: unsupported(),
    moderation: unsupported(),
    store: idle({ type: "boolean", description: "It changes nothing: nothing is stored." }),
  },
  ["messages"],
);

export const chatCompletions = endpoint<Body>({
  url: "/v1/chat/completions",
  aliases: ["/chat/completions"],
  summary: "Answer a conversation",
  schema,
  answers: ({ n }) => n ?? 1,
  async run(body, call) {
    const served = call.models.language(body.model, call.releases);
    served.checkRoom(1, body.n);
    const streamed = streams(body);
    checkPromptLogprobs(body);
    const custom = customTools(body.tools ?? []);
    const answering = answerOptionsOf(body);
    const { shown: tools } = choosable(answering.tools, answering.toolChoice);
    const variables = templateVariables(body);
    const tokens = await served.chatTokens(
      chatMessages(body.messages),
      "messages",
      { tools, variables, ...conversationEnd(body) },
      call,
    );
    const given = body.max_completion_tokens ?? body.max_tokens;
    const param = typeof body.max_completion_tokens === "number" ? "max_completion_tokens" : "max_tokens";
    const room = Math.min(served.contextLength, call.limits.maxTokens ?? Infinity);
    const limit = { maxTokens: given ?? room, param, logprobs: logprobsOf(body) };
    const options = { ...samplingOptions(body, limit, call.limits, served.engine.endTokens), ...answering, chat: true };
    const { prompt_logprobs: top, return_token_ids: withIds, cache_salt: salt } = body;
    const scores = typeof top === "number" ? await scorePrompts(served, call, [tokens], top, salt ?? undefined) : null;
    const answers = await Answers.begin("chat", served, call, [tokens], options);
    const head = {
      ...{ id: `chatcmpl-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: served.id },
      system_fingerprint: fingerprint,
    };
    const ids = withIds ? tokens : null;
    if (streamed)
      return new EventStream(events(head, served.tokenizer, answers, { ...streamed, custom }, ids), () =>
        answers.leave(),
      );
    const choices = (await answers.all(withIds === true)).map((answer, i) =>
      choiceOf(answer, i, served.tokenizer, custom),
    );
    return {
      ...{ ...head, object: "chat.completion", choices, usage: usageOf(answers.usage) },
      ...(ids && { prompt_token_ids: [...ids] }),
      ...(scores && { prompt_logprobs: promptLogprobs(served.tokenizer, scores[0]!) }),
    };
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

function answerOptionsOf(body: Body): ReturnType<typeof answerOptions> {
  const { response_format: format, tool_choice: chosen } = body;
  return answerOptions({
    format: format?.type === "json_schema" ? { type: "json_schema", ...format.json_schema } : format,
    tools: (body.tools ?? []).map((tool) =>
      tool.type === "custom" ? { ...tool.custom, type: "custom" } : { ...tool.function, type: "function" },
    ),
    toolChoice: chosen,
    parallelToolCalls: body.parallel_tool_calls,
    thinkingBudget: thinkingBudget(body),
  });
}

function choiceOf(answer: Answer, index: number, tokenizer: Tokenizer, custom: ReadonlySet<string>): object {
  const { text, reasoning, toolCalls, logprobs, tokens, finishReason } = answer;
  const message = {
    ...{ role: "assistant", content: text === "" && toolCalls.length > 0 ? null : text, refusal: null },
    ...(reasoning !== "" && { reasoning_content: reasoning }),
    ...(toolCalls.length > 0 && { tool_calls: toolCalls.map((call) => toolCallOf(call, custom)) }),
  };
  const ids = tokens && { token_ids: tokens };
  return { index, message, logprobs: chatLogprobs(tokenizer, logprobs), finish_reason: finishReason, ...ids };
}

function toolCallOf({ id, name, arguments: given }: ToolCall, custom: ReadonlySet<string>): object {
  if (custom.has(name)) return { id, type: "custom", custom: { name, input: inputText(given) } };
  return { id, type: "function", function: { name, arguments: given } };
}

/** Returns what is added to a call; `readers` read the texts of custom tools, by the indices of the answer and the call. */
function toolDeltaOf(
  answer: number,
  { index, id, name, arguments: added }: ToolCallDelta,
  custom: ReadonlySet<string>,
  readers: Map<string, InputReader>,
): object {
  const key = `${answer} ${index}`;
  if (name !== undefined && custom.has(name)) readers.set(key, new InputReader());
  const reader = readers.get(key);
  if (reader)
    return { index, ...(id && { id, type: "custom" }), custom: { ...(name && { name }), input: reader.push(added) } };
  return { index, ...(id && { id, type: "function" }), function: { ...(name && { name }), arguments: added } };
}

async function* events(
  head: object,
  tokenizer: Tokenizer,
  answers: Answers,
  { usage, continuous, custom }: Streamed & { readonly custom: ReadonlySet<string> },
  /** Tokens of the prompt if the events tell tokens. */
  prompt: Int32Array | null,
): AsyncGenerator<string, void, undefined> {
  const chunk = { ...head, object: "chat.completion.chunk" };
  const eventOf = choiceEvents(chunk, continuous ? () => usageOf(answers.usageSoFar) : usage);
  const eventFor = ({ index, logprobs, tokens = [], finishReason }: Part, delta: object): string => {
    const choice = { index, delta, logprobs: chatLogprobs(tokenizer, logprobs), finish_reason: finishReason };
    return eventOf(prompt ? { ...choice, token_ids: tokens } : choice);
  };
  if (prompt) yield eventText({ ...chunk, choices: [], prompt_token_ids: [...prompt], ...(usage && { usage: null }) });
  const begun = new Set<number>();
  const readers = new Map<string, InputReader>();
  for (let part = await answers.next(); part; part = await answers.next()) {
    const { index, finishReason } = part;
    const delta = deltaOf(part, custom, readers);
    if (!begun.has(index)) yield eventFor({ index, text: "", finishReason: null }, { role: "assistant", content: "" });
    begun.add(index);
    const { tokens = [] } = part;
    if (finishReason || delta || (prompt && tokens.length > 0)) yield eventFor(part, delta ?? {});
  }
  if (usage) yield eventText({ ...chunk, choices: [], usage: usageOf(answers.usage) });
  yield doneText;
}

/** Returns what a part adds to a message; null if it adds nothing. */
function deltaOf(
  { index, text, reasoning, toolCalls, logprobs }: Part,
  custom: ReadonlySet<string>,
  readers: Map<string, InputReader>,
): object | null {
  if (!reasoning && !toolCalls) return text !== "" || logprobs ? { content: text } : null;
  return {
    ...(text !== "" && { content: text }),
    ...(reasoning && { reasoning_content: reasoning }),
    ...(toolCalls && { tool_calls: toolCalls.map((call) => toolDeltaOf(index, call, custom, readers)) }),
  };
}
