// POST /v1/responses: answers without a memory of earlier ones.
import { randomUUID } from "node:crypto";
import type { JsonSchema } from "../json-schema.js";
import { choosable, type ToolCall } from "../tokenizer/tools.js";
import { type Answer, type AnswerEnd, Answers, type Usage } from "./answers.js";
import { apiErrorOf } from "./api-error.js";
import { chatMessages } from "./chat-messages.js";
import { endpoint, EventStream } from "./endpoint.js";
import { eventText } from "./event-lines.js";
import { idle, mostTokens, nameSchema, object, optional, textSchema, unsupported } from "./json-schema.js";
import { inputMessages, inputSchema, type InputItem } from "./response-input.js";
import { ignoredSchemas, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js";
import { modelSchema } from "./shared-parameters.js";
import {
  answerOptions,
  formatSchema,
  functionFields,
  type FunctionParameter,
  jsonSchemaFields,
  toolChoiceSchema,
} from "./structured-output.js";
import { type ReasoningEffort, reasoningSchema, templateVariables } from "./template-variables.js";

interface Body extends SamplingParameters {
  model?: string | null;
  input: string | InputItem[];
  instructions?: string | null;
  max_output_tokens?: number | null;
  stream?: boolean | null;
  text?: { format?: { type: "text" | "json_object" } | { type: "json_schema"; schema?: JsonSchema } | null } | null;
  tools?: FunctionParameter[] | null;
  tool_choice?: "auto" | "none" | "required" | { name: string } | null;
  parallel_tool_calls?: boolean | null;
  reasoning?: { effort?: ReasoningEffort | null } | null;
}

const functionType = { type: "string", enum: ["function"] };

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
    store: idle({ type: "boolean", description: "It changes nothing: nothing is stored." }),
    previous_response_id: unsupported(),
    conversation: unsupported(),
    prompt: unsupported(),
    background: unsupported(false),
    include: idle({ type: "array", maxItems: 64, items: nameSchema, description: "It adds nothing to the answer." }),
    tools: optional({
      ...{ type: "array", maxItems: 128, description: "Functions that the model may call." },
      items: object({ type: functionType, ...functionFields }, ["type", "name"]),
    }),
    tool_choice: toolChoiceSchema(object({ type: functionType, name: nameSchema }, ["name"])),
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
    truncation: unsupported("disabled"),
    stream_options: optional(object({ include_obfuscation: idle({ type: "boolean" }) })),
    top_logprobs: unsupported(0),
  },
  ["input"],
);

export const responses = endpoint<Body>({
  url: "/v1/responses",
  aliases: ["/responses"],
  summary: "Answer a conversation, in the form of OpenAI's responses",
  schema,
  async run(body, call) {
    const served = call.models.language(body.model, call.releases);
    served.checkRoom(1, 1);
    const messages = inputMessages(body.input, body.instructions ?? null);
    const answering = answerOptions({
      format: body.text?.format,
      tools: body.tools ?? [],
      toolChoice: body.tool_choice,
      parallelToolCalls: body.parallel_tool_calls,
    });
    const { shown: tools } = choosable(answering.tools, answering.toolChoice);
    const variables = templateVariables({ reasoning_effort: body.reasoning?.effort ?? null });
    const tokens = await served.chatTokens(chatMessages(messages), "input", { tools, variables }, call);
    const room = Math.min(served.contextLength, call.limits.maxTokens ?? Infinity);
    const limit = { maxTokens: body.max_output_tokens ?? room, param: "max_output_tokens" };
    const options = { ...samplingOptions(body, limit, call.limits, served.engine.endTokens), ...answering, chat: true };
    const answers = await Answers.begin("chat", served, call, [tokens], options);
    const response = new Response(body, served.id);
    if (body.stream) return new EventStream(events(response, answers), () => answers.leave());
    const [answer] = await answers.all();
    return response.ended(itemsOf(answer!), answer!.finishReason, answers.usage);
  },
});

/** A response in its states. */
class Response {
  readonly #head: object;

  constructor(body: Body, model: string) {
    const { instructions, max_output_tokens: limit, temperature, top_p: topP, text, tools } = body;
    this.#head = {
      ...{ id: `resp_${randomUUID()}`, object: "response", created_at: Math.floor(Date.now() / 1000), model },
      ...{ instructions: instructions ?? null, max_output_tokens: limit ?? null },
      ...{ temperature: temperature ?? null, top_p: topP ?? null },
      ...{ error: null, metadata: {}, previous_response_id: null, store: false, truncation: "disabled" },
      ...{ parallel_tool_calls: body.parallel_tool_calls ?? true, tools: tools ?? [] },
      tool_choice: body.tool_choice ?? (tools?.length ? "auto" : "none"),
      text: { format: text?.format ?? { type: "text" } },
    };
  }

  get begun(): object {
    return { ...this.#head, status: "in_progress", incomplete_details: null, output: [], usage: null };
  }

  ended(items: readonly OutputItem[], finishReason: AnswerEnd, usage: Usage): object {
    const complete = finishReason !== "length";
    const status = complete ? "completed" : "incomplete";
    return {
      ...this.#head,
      status,
      incomplete_details: complete ? null : { reason: "max_output_tokens" },
      output: items.map((item) => item.object(status)),
      usage: {
        ...{ input_tokens: usage.promptTokens, input_tokens_details: { cached_tokens: usage.cachedTokens } },
        ...{
          output_tokens: usage.completionTokens,
          output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
        },
        total_tokens: usage.promptTokens + usage.completionTokens,
      },
    };
  }

  failed(error: { code: string | null; message: string }): object {
    return { ...this.begun, status: "failed", error };
  }
}

/** A part of the output: reasoning, a message, or a call of a function. */
class OutputItem {
  readonly id: string;
  text = "";

  constructor(
    readonly kind: "reasoning" | "message" | "function_call",
    readonly call: Pick<ToolCall, "id" | "name"> | null = null,
  ) {
    this.id = `${{ reasoning: "rs", message: "msg", function_call: "fc" }[kind]}_${randomUUID()}`;
  }

  /** Returns the item as the response has it. */
  object(status: string): object {
    const { kind: type, id, text, call } = this;
    if (type === "reasoning") return { type, id, status, summary: [], content: [{ type: "reasoning_text", text }] };
    if (type === "function_call") return { type, id, status, call_id: call!.id, name: call!.name, arguments: text };
    return { type, id, status, role: "assistant", content: status === "in_progress" ? [] : [partOf(text)] };
  }
}

/** Returns the output of a whole answer. There is a message unless there are calls. */
function itemsOf({ text, reasoning, toolCalls }: Answer): OutputItem[] {
  const filled = (item: OutputItem, content: string): OutputItem => Object.assign(item, { text: content });
  return [
    ...(reasoning === "" ? [] : [filled(new OutputItem("reasoning"), reasoning)]),
    ...(text === "" && toolCalls.length > 0 ? [] : [filled(new OutputItem("message"), text)]),
    ...toolCalls.map((call) => filled(new OutputItem("function_call", call), call.arguments)),
  ];
}

function partOf(text: string): object {
  return { type: "output_text", text, annotations: [], logprobs: [] };
}

type Emit = (type: string, fields: object) => string;

/** Output items in the order in which they begin, with their events. */
class OutputStream {
  readonly items: OutputItem[] = [];
  readonly #event: Emit;
  #open: OutputItem | null = null;

  constructor(event: Emit) {
    this.#event = event;
  }

  /** Yields the events of a text that is added to an item, which begins unless it is the last one. */
  *add(kind: OutputItem["kind"], delta: string, call: OutputItem["call"] = null): Generator<string> {
    if (this.#open?.kind !== kind || call) {
      yield* this.close("completed");
      this.#open = new OutputItem(kind, call);
      this.items.push(this.#open);
      yield this.#event("response.output_item.added", { ...this.#index, item: this.#open.object("in_progress") });
      if (kind === "message") yield this.#event("response.content_part.added", { ...this.#place, part: partOf("") });
    }
    const item = this.#open;
    item.text += delta;
    if (delta === "") return;
    if (kind === "message") yield this.#event("response.output_text.delta", { ...this.#place, delta, logprobs: [] });
    else if (kind === "reasoning") yield this.#event("response.reasoning_text.delta", { ...this.#place, delta });
    else yield this.#event("response.function_call_arguments.delta", { item_id: item.id, ...this.#index, delta });
  }

  /** Yields the events that end the last item. */
  *close(status: string): Generator<string> {
    const item = this.#open;
    if (!item) return;
    const { text, kind, call } = item;
    if (kind === "message") {
      yield this.#event("response.output_text.done", { ...this.#place, text, logprobs: [] });
      yield this.#event("response.content_part.done", { ...this.#place, part: partOf(text) });
    } else if (kind === "reasoning") yield this.#event("response.reasoning_text.done", { ...this.#place, text });
    else
      yield this.#event("response.function_call_arguments.done", {
        ...{ item_id: item.id, ...this.#index, name: call!.name, arguments: text },
      });
    yield this.#event("response.output_item.done", { ...this.#index, item: item.object(status) });
    this.#open = null;
  }

  get #index(): object {
    return { output_index: this.items.length - 1 };
  }

  get #place(): object {
    return { item_id: this.items.at(-1)!.id, ...this.#index, content_index: 0 };
  }
}

async function* events(response: Response, answers: Answers): AsyncGenerator<string, void, undefined> {
  let number = 0;
  const event: Emit = (type, fields) => eventText({ type, sequence_number: number++, ...fields }, type);
  yield event("response.created", { response: response.begun });
  yield event("response.in_progress", { response: response.begun });
  const output = new OutputStream(event);
  let reason: AnswerEnd = "stop";
  try {
    for (let part = await answers.next(); part; part = await answers.next()) {
      const { text, reasoning = "", toolCalls = [], finishReason } = part;
      reason = finishReason ?? reason;
      if (reasoning !== "") yield* output.add("reasoning", reasoning);
      if (text !== "") yield* output.add("message", text);
      for (const { id, name, arguments: added } of toolCalls)
        yield* output.add("function_call", added, id && name ? { id, name } : null);
    }
  } catch (cause) {
    const { code, message } = apiErrorOf(cause);
    yield event("response.failed", { response: response.failed({ code: code ?? "server_error", message }) });
    throw cause;
  }
  if (!output.items.some(({ kind }) => kind !== "reasoning")) yield* output.add("message", "");
  const status = reason === "length" ? "incomplete" : "completed";
  yield* output.close(status);
  yield event(`response.${status}`, { response: response.ended(output.items, reason, answers.usage) });
}
