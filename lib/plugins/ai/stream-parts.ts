// Turns the events of a generation into the parts of a stream of the AI SDK: blocks of text and of reasoning and calls of
// tools, each with a start, parts and an end, one after the other.
import type {
  LanguageModelV3FinishReason,
  LanguageModelV3StreamPart,
  LanguageModelV3Usage,
  SharedV3Warning,
} from "@ai-sdk/provider";
import type { GenerationEvent, GenerationResult } from "../../generate/generation.js";
import type { ToolCall, ToolCallDelta } from "../../tokenizer/tools.js";

/** Yields the parts of a stream. `result` resolves to the whole result once the events have been read. */
export async function* streamParts(
  events: AsyncIterable<GenerationEvent>,
  result: PromiseLike<GenerationResult>,
  warnings: SharedV3Warning[],
  signal: AbortSignal,
): AsyncGenerator<LanguageModelV3StreamPart, void, undefined> {
  yield { type: "stream-start", warnings };
  const blocks = new Blocks();
  try {
    for await (const { text, reasoning = "", toolCalls = [] } of events) {
      if (reasoning !== "") yield* blocks.add("reasoning", reasoning);
      if (text !== "") yield* blocks.add("text", text);
      for (const delta of toolCalls) yield* blocks.addToCall(delta);
    }
    yield* blocks.end();
    const { finishReason, usage } = await result;
    yield { type: "finish", finishReason: finishReasonOf(finishReason), usage: usageOf(usage) };
  } catch (error) {
    if (signal.aborted) throw error;
    yield { type: "error", error };
    yield { type: "finish", finishReason: { unified: "error", raw: undefined }, usage: usageOf() };
  }
}

/** The block that is open, and the number of those before it. */
class Blocks {
  #count = 0;
  #open: { type: "text" | "reasoning"; id: string } | { type: "call"; index: number; call: ToolCall } | null = null;

  /** Adds to the open block, or ends it and starts another. */
  *add(type: "text" | "reasoning", delta: string): Generator<LanguageModelV3StreamPart> {
    if (this.#open?.type !== type) {
      yield* this.end();
      this.#open = { type, id: String(this.#count++) };
      yield { type: `${type}-start`, id: this.#open.id };
    }
    yield { type: `${type}-delta`, id: this.#open.id, delta };
  }

  /** Adds to the open call of a tool, or ends the open block and starts the call. */
  *addToCall({ index, id = "", name = "", arguments: delta }: ToolCallDelta): Generator<LanguageModelV3StreamPart> {
    if (this.#open?.type !== "call" || this.#open.index !== index) {
      yield* this.end();
      this.#open = { type: "call", index, call: { id, name, arguments: "" } };
      yield { type: "tool-input-start", id, toolName: name };
    }
    const { call } = this.#open;
    call.arguments += delta;
    if (delta !== "") yield { type: "tool-input-delta", id: call.id, delta };
  }

  /** Ends the open block, if there is one. */
  *end(): Generator<LanguageModelV3StreamPart> {
    const open = this.#open;
    this.#open = null;
    if (open?.type === "call") {
      yield { type: "tool-input-end", id: open.call.id };
      yield toolCallOf(open.call);
    } else if (open) yield { type: `${open.type}-end`, id: open.id };
  }
}

/** Returns a call of a tool in the AI SDK's form. */
export function toolCallOf({
  id,
  name,
  arguments: input,
}: ToolCall): LanguageModelV3StreamPart & { type: "tool-call" } {
  return { type: "tool-call", toolCallId: id, toolName: name, input };
}

/** Returns a finish reason in the AI SDK's form. */
export function finishReasonOf(raw: GenerationResult["finishReason"]): LanguageModelV3FinishReason {
  return { unified: raw === "stop" || raw === "length" || raw === "tool-calls" ? raw : "other", raw };
}

/** Returns numbers of tokens in the AI SDK's form. */
export function usageOf(usage?: GenerationResult["usage"]): LanguageModelV3Usage {
  const { promptTokens: total, cachedTokens: cacheRead } = usage ?? {};
  const noCache = usage && usage.promptTokens - usage.cachedTokens;
  return {
    inputTokens: { total, noCache, cacheRead, cacheWrite: undefined },
    outputTokens: { total: usage?.completionTokens, text: undefined, reasoning: undefined },
  };
}
