// POST /v1/responses: answers without a memory of earlier ones.
import { randomUUID } from "node:crypto";
import { Answers, type Usage } from "./answers.js";
import { apiErrorOf } from "./api-error.js";
import { chatMessages, contentSchema, type MessageParameter, rolesSchema } from "./chat-messages.js";
import { endpoint, EventStream, type StreamEvent } from "./endpoint.js";
import { object, optional, type Schema, unsupported } from "./json-schema.js";
import { ignoredSchemas, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js";
import { modelSchema } from "./shared-parameters.js";

interface Body extends SamplingParameters {
  model?: string | null;
  input: string | MessageParameter[];
  instructions?: string | null;
  max_output_tokens?: number | null;
  stream?: boolean | null;
}

const message: Schema = object(
  {
    type: { type: "string", enum: ["message"] },
    role: rolesSchema,
    content: contentSchema("input_text", "output_text"),
    // Clients send back the messages of earlier answers, which have these fields.
    id: { type: "string" },
    status: { type: "string" },
  },
  ["role", "content"],
);

const schema = object(
  {
    model: modelSchema,
    input: {
      anyOf: [{ type: "string" }, { type: "array", minItems: 1, items: message }],
      description: "a text, or an array of messages",
    },
    instructions: optional({ type: "string", description: "Message of the role system that comes first." }),
    max_output_tokens: optional({ type: "integer", minimum: 1, description: "Most tokens to generate." }),
    stream: optional({ type: "boolean", description: "Send the answer in parts, as server-sent events." }),
    ...samplingSchemas,
    n: unsupported(1),
    ...ignoredSchemas,
    store: unsupported(false),
    previous_response_id: unsupported(),
    conversation: unsupported(),
    prompt: unsupported(),
    background: unsupported(false),
    include: unsupported([]),
    tools: unsupported([]),
    tool_choice: unsupported("none", "auto"),
    parallel_tool_calls: unsupported(true, false),
    max_tool_calls: unsupported(),
    text: unsupported({}, { format: { type: "text" } }),
    reasoning: unsupported({}),
    truncation: unsupported("disabled"),
    stream_options: unsupported({}, { include_obfuscation: false }),
    top_logprobs: unsupported(0),
    service_tier: unsupported("auto", "default"),
    metadata: unsupported({}),
  },
  ["input"],
);

export const responses = endpoint<Body>({
  url: "/v1/responses",
  summary: "Answer a conversation, in the form of OpenAI's responses",
  schema,
  async run(body, call) {
    const served = call.models.language(body.model);
    const { input, instructions } = body;
    const given: MessageParameter[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
    const first: MessageParameter[] =
      typeof instructions === "string" ? [{ role: "system", content: instructions }] : [];
    const tokens = await served.chatTokens(chatMessages([...first, ...given]), "input");
    const room = Math.min(served.contextLength, call.limits.maxTokens ?? Infinity);
    const limit = { maxTokens: body.max_output_tokens ?? room, param: "max_output_tokens" };
    const answers = await Answers.begin("chat", served, call, [tokens], samplingOptions(body, limit, call.limits));
    const response = new Response(body, served.id);
    if (body.stream) return new EventStream(events(response, answers));
    const [answer] = await answers.all();
    return response.ended(answer!.text, answer!.finishReason, answers.usage);
  },
});

/** A response in its states. */
class Response {
  readonly #head: object;
  readonly #message = `msg_${randomUUID()}`;

  constructor({ instructions, max_output_tokens: limit, temperature, top_p: topP }: Body, model: string) {
    this.#head = {
      ...{ id: `resp_${randomUUID()}`, object: "response", created_at: Math.floor(Date.now() / 1000), model },
      ...{ instructions: instructions ?? null, max_output_tokens: limit ?? null },
      ...{ temperature: temperature ?? null, top_p: topP ?? null },
      ...{ error: null, metadata: {}, parallel_tool_calls: false, previous_response_id: null, store: false },
      ...{ text: { format: { type: "text" } }, tool_choice: "none", tools: [], truncation: "disabled" },
    };
  }

  get begun(): object {
    return { ...this.#head, status: "in_progress", incomplete_details: null, output: [], usage: null };
  }

  ended(text: string, finishReason: "stop" | "length", usage: Usage): object {
    const complete = finishReason === "stop";
    return {
      ...this.#head,
      status: complete ? "completed" : "incomplete",
      incomplete_details: complete ? null : { reason: "max_output_tokens" },
      output: [this.item(text, complete ? "completed" : "incomplete")],
      usage: {
        ...{ input_tokens: usage.promptTokens, input_tokens_details: { cached_tokens: 0 } },
        ...{ output_tokens: usage.completionTokens, output_tokens_details: { reasoning_tokens: 0 } },
        total_tokens: usage.promptTokens + usage.completionTokens,
      },
    };
  }

  failed(error: { code: string | null; message: string }): object {
    return { ...this.begun, status: "failed", error };
  }

  /** Returns the message that contains the answer, or begins it if `text` is null. */
  item(text: string | null, status: string): object {
    const content = text === null ? [] : [partOf(text)];
    return { type: "message", id: this.#message, status, role: "assistant", content };
  }

  /** Place of the answer's text in the response. */
  get place(): object {
    return { item_id: this.#message, output_index: 0, content_index: 0 };
  }
}

function partOf(text: string): object {
  return { type: "output_text", text, annotations: [], logprobs: [] };
}

async function* events(response: Response, answers: Answers): AsyncGenerator<StreamEvent, void, undefined> {
  let number = 0;
  const event = (type: string, fields: object): StreamEvent => ({
    ...{ event: type, data: { type, sequence_number: number++, ...fields } },
  });
  const { place } = response;
  yield event("response.created", { response: response.begun });
  yield event("response.in_progress", { response: response.begun });
  yield event("response.output_item.added", { output_index: 0, item: response.item(null, "in_progress") });
  yield event("response.content_part.added", { ...place, part: partOf("") });
  let text = "";
  let reason: "stop" | "length" = "stop";
  try {
    for await (const part of answers.parts()) {
      text += part.text;
      reason = part.finishReason ?? reason;
      if (part.text !== "") yield event("response.output_text.delta", { ...place, delta: part.text, logprobs: [] });
    }
  } catch (cause) {
    const { code, message } = apiErrorOf(cause);
    yield event("response.failed", { response: response.failed({ code: code ?? "server_error", message }) });
    throw cause;
  }
  const status = reason === "stop" ? "completed" : "incomplete";
  yield event("response.output_text.done", { ...place, text, logprobs: [] });
  yield event("response.content_part.done", { ...place, part: partOf(text) });
  yield event("response.output_item.done", { output_index: 0, item: response.item(text, status) });
  yield event(`response.${status}`, { response: response.ended(text, reason, answers.usage) });
}
