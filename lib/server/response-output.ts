// The output of a response: its items, and the events that tell of them while they are generated.
import type { TokenLogprobs } from "../generate/generation.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { ToolCall } from "../tokenizer/tools.js";
import type { AnswerEnd, Answers, Part, Usage } from "./answers.js";
import { InputReader } from "./custom-input.js";
import { chatLogprobs } from "./logprobs.js";
import { type InputItem, itemId } from "./response-input.js";

type Kind = "reasoning" | "message" | "function_call" | "custom_tool_call";

/** A part of the output: reasoning, a message, or a call of a tool. */
class OutputItem {
  readonly id: string;
  text = "";
  readonly logprobs: object[] = [];

  constructor(
    readonly kind: Kind,
    readonly call: Pick<ToolCall, "id" | "name"> | null = null,
  ) {
    this.id = itemId(kind);
  }

  /** Returns the item as the response has it. */
  object(status: string): object {
    const { kind: type, id, text, call, logprobs } = this;
    if (type === "reasoning") return { type, id, status, summary: [], content: [{ type: "reasoning_text", text }] };
    if (type === "function_call") return { type, id, status, call_id: call!.id, name: call!.name, arguments: text };
    if (type === "custom_tool_call") return { type, id, status, call_id: call!.id, name: call!.name, input: text };
    const content = status === "in_progress" ? [] : [partOf(text, logprobs)];
    return { type, id, status, role: "assistant", content };
  }
}

function partOf(text: string, logprobs: readonly object[] = []): object {
  return { type: "output_text", text, annotations: [], logprobs };
}

/** Writes an event; what it returns is sent. */
export type Emit = (type: string, fields: object) => string;

/** Output items in the order in which they begin, with their events. */
export class OutputStream {
  readonly items: OutputItem[] = [];
  readonly #event: Emit;
  readonly #tokenizer: Tokenizer;
  readonly #custom: ReadonlySet<string>;
  #open: OutputItem | null = null;
  #reader = new InputReader();

  /** Tells of items by `event`. Calls of `custom` tools have a text. */
  constructor(event: Emit, tokenizer: Tokenizer, custom: ReadonlySet<string>) {
    this.#event = event;
    this.#tokenizer = tokenizer;
    this.#custom = custom;
  }

  /** Yields the events of a part of the answer. */
  *add({ text, reasoning = "", toolCalls = [], logprobs }: Part): Generator<string> {
    if (reasoning !== "") yield* this.#add("reasoning", reasoning);
    if (text !== "") yield* this.#add("message", text, null, logprobs);
    for (const { id, name, arguments: added } of toolCalls) {
      const call = id !== undefined && name !== undefined ? { id, name } : null;
      const known = name ?? this.#open?.call?.name ?? "";
      const kind = this.#custom.has(known) ? "custom_tool_call" : "function_call";
      if (call) this.#reader = new InputReader();
      yield* this.#add(kind, kind === "function_call" ? added : this.#reader.push(added), call);
    }
  }

  /** Yields the events that end the output. There is a message unless there are calls. */
  *end(reason: AnswerEnd): Generator<string> {
    if (!this.items.some(({ kind }) => kind !== "reasoning")) yield* this.#add("message", "");
    yield* this.#close(reason === "length" ? "incomplete" : "completed");
  }

  /** Yields the events of a text that is added to an item, which begins unless it is the last one. */
  *#add(
    kind: Kind,
    delta: string,
    call: OutputItem["call"] = null,
    rows?: readonly TokenLogprobs[],
  ): Generator<string> {
    if (this.#open?.kind !== kind || call) {
      yield* this.#close("completed");
      this.#open = new OutputItem(kind, call);
      this.items.push(this.#open);
      yield this.#event("response.output_item.added", { ...this.#index, item: this.#open.object("in_progress") });
      if (kind === "message") yield this.#event("response.content_part.added", { ...this.#place, part: partOf("") });
    }
    const item = this.#open;
    item.text += delta;
    if (delta === "") return;
    const logprobs = rows ? (chatLogprobs(this.#tokenizer, rows)!.content.toJSON() as object[]) : [];
    for (const one of logprobs) item.logprobs.push(one);
    const at = { item_id: item.id, ...this.#index };
    if (kind === "message") yield this.#event("response.output_text.delta", { ...this.#place, delta, logprobs });
    else if (kind === "reasoning") yield this.#event("response.reasoning_text.delta", { ...this.#place, delta });
    else if (kind === "function_call") yield this.#event("response.function_call_arguments.delta", { ...at, delta });
    else yield this.#event("response.custom_tool_call_input.delta", { ...at, delta });
  }

  /** Yields the events that end the last item. */
  *#close(status: string): Generator<string> {
    const item = this.#open;
    if (!item) return;
    const { text, kind, call, logprobs } = item;
    const at = { item_id: item.id, ...this.#index };
    if (kind === "message") {
      yield this.#event("response.output_text.done", { ...this.#place, text, logprobs });
      yield this.#event("response.content_part.done", { ...this.#place, part: partOf(text, logprobs) });
    } else if (kind === "reasoning") yield this.#event("response.reasoning_text.done", { ...this.#place, text });
    else if (kind === "custom_tool_call")
      yield this.#event("response.custom_tool_call_input.done", { ...at, input: text });
    else yield this.#event("response.function_call_arguments.done", { ...at, name: call!.name, arguments: text });
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

/** Fields that a response has in all of its states. */
export type ResponseHead = Readonly<Record<string, unknown>> & { readonly id: string };

/** Returns a response that has begun. */
export function begunResponse(head: ResponseHead): object {
  return { ...head, status: "in_progress", incomplete_details: null, output: [], usage: null };
}

/** Returns a response that has failed. */
export function failedResponse(head: ResponseHead, error: { code: string | null; message: string }): object {
  return { ...begunResponse(head), status: "failed", error };
}

/** Returns a response whose output is complete, or was cut. */
export function endedResponse(
  head: ResponseHead,
  items: OutputStream["items"],
  reason: AnswerEnd,
  usage: Usage,
): Record<string, unknown> & { output: InputItem[] } {
  const complete = reason !== "length";
  return {
    ...head,
    status: complete ? "completed" : "incomplete",
    incomplete_details: complete ? null : { reason: "max_output_tokens" },
    output: items.map((item, i) =>
      item.object(complete || i < items.length - 1 ? "completed" : "incomplete"),
    ) as InputItem[],
    usage: {
      ...{ input_tokens: usage.promptTokens, input_tokens_details: { cached_tokens: usage.cachedTokens } },
      output_tokens: usage.completionTokens,
      output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
      total_tokens: usage.promptTokens + usage.completionTokens,
    },
  };
}

/** Resolves to the reason why an answer has ended, and yields the events of its parts. */
export async function* outputEvents(
  output: OutputStream,
  answers: Answers,
): AsyncGenerator<string, AnswerEnd, undefined> {
  let reason: AnswerEnd = "stop";
  for (let part = await answers.next(); part; part = await answers.next()) {
    reason = part.finishReason ?? reason;
    yield* output.add(part);
  }
  yield* output.end(reason);
  return reason;
}
