// POST /v1/responses: answers to conversations, which may go on from stored ones; and the routes of those that are stored.
import { randomUUID } from "node:crypto";
import type { JsonSchema } from "../util/json-schema.js";
import { choosable } from "../tokenizer/tools.js";
import { Answers } from "./answers.js";
import { ApiError, apiErrorOf } from "./api-error.js";
import { chatMessages } from "./chat-messages.js";
import { type Call, endpoint, EventStream } from "./endpoint.js";
import { eventText } from "./event-lines.js";
import { idle, mostTokens, nameSchema, object, optional, textSchema, unsupported } from "./json-schema.js";
import { conversationItems, inputMessages, inputSchema, type InputItem } from "./response-input.js";
import { begunResponse, type Emit, endedResponse, failedResponse, outputEvents, OutputStream, type ResponseHead } from "./response-output.js"; // prettier-ignore
import { ignoredSchemas, metadataSchema, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js"; // prettier-ignore
import type { ServedLanguageModel } from "./served-models.js";
import { modelSchema } from "./shared-parameters.js";
import {
  answerOptions,
  customTools,
  formatSchema,
  jsonSchemaFields,
  type ToolChoiceParameter,
  toolChoiceSchema,
  type ToolParameter,
  toolsSchema,
} from "./structured-output.js";
import {
  budgetSchemas,
  type ReasoningEffort,
  reasoningSchema,
  type TemplateParameters,
  templateVariables,
  thinkingBudget,
} from "./template-variables.js";

interface Body extends SamplingParameters {
  model?: string | null;
  input?: string | InputItem[] | null;
  instructions?: string | null;
  max_output_tokens?: number | null;
  stream?: boolean | null;
  store?: boolean | null;
  previous_response_id?: string | null;
  metadata?: Record<string, string> | null;
  truncation?: "auto" | "disabled" | null;
  top_logprobs?: number | null;
  include?: string[] | null;
  text?: {
    format?: { type: "text" | "json_object" } | { type: "json_schema"; schema?: JsonSchema } | null;
    verbosity?: string | null;
  } | null;
  tools?: ToolParameter[] | null;
  tool_choice?: ToolChoiceParameter | null;
  parallel_tool_calls?: boolean | null;
  reasoning?: { effort?: ReasoningEffort | null; summary?: string | null } | null;
  thinking_budget?: number | null;
  thinking_token_budget?: number | null;
}

const logprobsName = "message.output_text.logprobs";

const schema = object(
  {
    model: modelSchema,
    input: inputSchema,
    instructions: optional({ ...textSchema, description: "Message of the role system that comes first." }),
    max_output_tokens: optional({
      ...{ type: "integer", minimum: 1, maximum: mostTokens, description: "Most tokens to generate." },
      "x-cost": "keys and values of each token, within the context",
    }),
    stream: optional({ type: "boolean", description: "Send the answer in parts, as server-sent events." }),
    ...samplingSchemas,
    n: unsupported(1),
    ...ignoredSchemas,
    metadata: metadataSchema,
    store: optional({
      type: "boolean",
      description: "Keep the response in memory, so that others can go on from it; true by default.",
    }),
    previous_response_id: optional({
      ...nameSchema,
      description: "Id of the stored response that this one goes on from.",
    }),
    conversation: unsupported(),
    prompt: unsupported(),
    background: unsupported(false),
    include: optional({
      ...{ type: "array", maxItems: 64, items: nameSchema },
      description: `Parts to add to the output. Besides ${logprobsName}, they add nothing.`,
    }),
    tools: toolsSchema(true),
    tool_choice: toolChoiceSchema(true),
    parallel_tool_calls: optional({ type: "boolean", description: "Allow more than one call in an answer." }),
    max_tool_calls: unsupported(),
    moderation: unsupported(),
    context_management: unsupported([]),
    text: optional(
      object({
        format: formatSchema(jsonSchemaFields, ["schema"]),
        verbosity: idle({ type: "string", enum: ["low", "medium", "high", null] }),
      }),
    ),
    reasoning: reasoningSchema,
    ...budgetSchemas,
    truncation: optional({
      ...{ type: "string", enum: ["auto", "disabled", null] },
      description:
        "If it is auto, the oldest messages are left out of a conversation that does not fit into the context.",
    }),
    stream_options: optional(object({ include_obfuscation: idle({ type: "boolean" }) })),
    top_logprobs: optional({
      ...{ type: "integer", minimum: 0, maximum: 20 },
      description: "Number of the most likely tokens at each place of the text to give the log-probabilities of.",
      "x-cost": "as many numbers for each token",
    }),
  },
  [],
);

/** A request that is ready to be answered. */
interface Prepared {
  readonly served: ServedLanguageModel;
  /** Items of the whole conversation. */
  readonly items: readonly InputItem[];
  readonly tokens: Int32Array;
  readonly answering: ReturnType<typeof answerOptions>;
  readonly custom: ReadonlySet<string>;
}

/** Resolves to the tokens of a request's conversation, and to what they stand for. */
async function prepared(body: Body, call: Call): Promise<Prepared> {
  const served = call.models.language(body.model, call.releases);
  served.checkRoom(1, 1);
  const custom = customTools(body.tools ?? []);
  const items = conversationItems(body.input ?? null, body.previous_response_id ?? null, call);
  const answering = answerOptions({
    format: body.text?.format,
    tools: body.tools ?? [],
    toolChoice: body.tool_choice,
    parallelToolCalls: body.parallel_tool_calls,
    thinkingBudget: thinkingBudget(thinkingOf(body)),
  });
  const { shown: tools } = choosable(answering.tools, answering.toolChoice);
  const variables = templateVariables(thinkingOf(body));
  const tokensOf = (from: number): Promise<Int32Array> => {
    const messages = inputMessages(withoutFirst(items, from), body.instructions ?? null);
    return served.chatTokens(chatMessages(messages), "input", { tools, variables }, call);
  };
  const most = served.contextLength - Math.min(body.max_output_tokens ?? Infinity, served.contextLength >> 2);
  const tokens = body.truncation === "auto" ? await fitting(items, tokensOf, most) : await tokensOf(0);
  return { served, items, tokens, answering, custom };
}

/** Returns the parameters of how much the model thinks. Others of a chat may be among the unread fields. */
function thinkingOf({ reasoning, thinking_budget: own, thinking_token_budget: other }: Body): TemplateParameters {
  return { reasoning_effort: reasoning?.effort ?? null, thinking_budget: own ?? other ?? null };
}

/** Returns the items without some of the oldest, of which those of the system stay; results go with their calls. */
function withoutFirst(items: readonly InputItem[], count: number): readonly InputItem[] {
  if (count === 0) return items;
  const roleOf = (item: InputItem): string | null => ("role" in item ? item.role : null);
  const isSystem = (item: InputItem): boolean => ["system", "developer"].includes(roleOf(item) ?? "");
  let from = count;
  while (from < items.length - 1 && roleOf(items[from]!) !== "user") from++;
  return [...items.slice(0, from).filter(isSystem), ...items.slice(from)];
}

/** Resolves to the tokens of a conversation without as many of the oldest items as do not fit with an answer. */
async function fitting(
  items: readonly InputItem[],
  tokensOf: (from: number) => Promise<Int32Array>,
  most: number,
): Promise<Int32Array> {
  const within = async (from: number): Promise<Int32Array | null> => {
    try {
      const tokens = await tokensOf(from);
      return tokens.length <= most ? tokens : null;
    } catch (error) {
      if (error instanceof ApiError && error.code === "context_length_exceeded") return null;
      throw error;
    }
  };
  const whole = await within(0);
  if (whole) return whole;
  let [low, high] = [0, items.length - 1];
  let found: Int32Array | null = null;
  // The fewest items are left out: those from `high` on are known to fit, or are the last one.
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    const tokens = await within(middle);
    if (tokens) [found, high] = [tokens, middle];
    else low = middle;
  }
  return found ?? (await tokensOf(Math.max(0, items.length - 1)));
}

function headOf(body: Body, model: string, stores: boolean): ResponseHead {
  const { tools, text, reasoning } = body;
  return {
    ...{ id: `resp_${randomUUID()}`, object: "response", created_at: Math.floor(Date.now() / 1000), model },
    ...{ instructions: body.instructions ?? null, max_output_tokens: body.max_output_tokens ?? null },
    ...{ temperature: body.temperature ?? null, top_p: body.top_p ?? null, top_logprobs: body.top_logprobs ?? 0 },
    ...{ error: null, metadata: body.metadata ?? {}, store: stores, background: false },
    ...{ previous_response_id: body.previous_response_id ?? null, truncation: body.truncation ?? "disabled" },
    ...{ parallel_tool_calls: body.parallel_tool_calls ?? true, tools: tools ?? [] },
    tool_choice: body.tool_choice ?? (tools?.length ? "auto" : "none"),
    text: { format: text?.format ?? { type: "text" }, ...(text?.verbosity && { verbosity: text.verbosity }) },
    reasoning: { effort: reasoning?.effort ?? null, summary: reasoning?.summary ?? null },
  };
}

export const responses = endpoint<Body>({
  url: "/v1/responses",
  aliases: ["/responses"],
  summary: "Answer a conversation, in the form of OpenAI's responses",
  schema,
  async run(body, call) {
    const { served, items, tokens, answering, custom } = await prepared(body, call);
    const room = Math.min(served.contextLength, call.limits.maxTokens ?? Infinity);
    const wantsLogprobs = (body.top_logprobs ?? 0) > 0 || body.include?.includes(logprobsName) === true;
    const limit = {
      ...{ maxTokens: body.max_output_tokens ?? room, param: "max_output_tokens" },
      logprobs: wantsLogprobs ? (body.top_logprobs ?? 0) : null,
    };
    const options = { ...samplingOptions(body, limit, call.limits, served.engine.endTokens), ...answering, chat: true };
    const answers = await Answers.begin("chat", served, call, [tokens], options);
    const stores = body.store !== false && call.responses.keeps;
    const head = headOf(body, served.id, stores);
    const keep = (response: ReturnType<typeof endedResponse>): void => {
      if (stores) call.responses.add(call.owner, { id: head.id, response, input: items, output: response.output });
    };
    if (body.stream) return new EventStream(events(head, served, answers, custom, keep), () => answers.leave());
    const output = new OutputStream(() => "", served.tokenizer, custom);
    const parts = outputEvents(output, answers);
    for (let next = await parts.next(); ; next = await parts.next()) {
      if (!next.done) continue;
      const response = endedResponse(head, output.items, next.value, answers.usage);
      keep(response);
      return response;
    }
  },
});

export const inputTokens = endpoint<Body>({
  url: "/v1/responses/input_tokens",
  aliases: ["/responses/input_tokens"],
  summary: "Count the tokens of a response's input",
  schema,
  async run(body, call) {
    const { tokens } = await prepared(body, call);
    return { object: "response.input_tokens", input_tokens: tokens.length };
  },
});

async function* events(
  head: ResponseHead,
  { tokenizer }: ServedLanguageModel,
  answers: Answers,
  custom: ReadonlySet<string>,
  keep: (response: ReturnType<typeof endedResponse>) => void,
): AsyncGenerator<string, void, undefined> {
  let number = 0;
  const event: Emit = (type, fields) => eventText({ type, sequence_number: number++, ...fields }, type);
  yield event("response.created", { response: begunResponse(head) });
  yield event("response.in_progress", { response: begunResponse(head) });
  const output = new OutputStream(event, tokenizer, custom);
  try {
    const reason = yield* outputEvents(output, answers);
    const response = endedResponse(head, output.items, reason, answers.usage);
    keep(response);
    yield event(`response.${reason === "length" ? "incomplete" : "completed"}`, { response });
  } catch (cause) {
    const { code, message } = apiErrorOf(cause);
    yield event("response.failed", { response: failedResponse(head, { code: code ?? "server_error", message }) });
    throw cause;
  }
}
