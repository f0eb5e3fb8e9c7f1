// A model of heed behind the AI SDK's interface of language models.
import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3Content,
  LanguageModelV3GenerateResult,
  LanguageModelV3StreamResult,
  SharedV3Warning,
} from "@ai-sdk/provider";
import type { Generation, GenerationEvent } from "../../generate/generation.js";
import type { LazyModel } from "../lazy-model.js";
import { chatOptionsOf } from "./call-options.js";
import { loaded } from "./no-such-model.js";
import { messagesOf } from "./prompt.js";
import { finishReasonOf, streamParts, toolCallOf, usageOf } from "./stream-parts.js";

/** A language model for functions of the AI SDK, such as `generateText` and `streamText`. */
export class HeedLanguageModel implements LanguageModelV3 {
  readonly specificationVersion = "v3";
  readonly provider = "heed";
  /** Name of the model. */
  readonly modelId: string;
  // `ai` 7 calls methods on a proxy of the model, which has no #private fields.
  private readonly lazy: LazyModel<"causal">;
  /** Images and other files are not supported, so none are passed by their address. */
  readonly supportedUrls = {};
  /** @internal Use `heed()`. */
  constructor(model: LazyModel<"causal">) {
    this.lazy = model;
    this.modelId = model.id;
  }

  /**
   * Resolves to the whole answer to a prompt. Calls at the same time are computed together, as one batch.
   *
   * @throws ERR_ARGUMENT or ERR_RANGE if the prompt or a setting is invalid; the AI SDK's NoSuchModelError if there is no
   *   language model of this name. For other errors, see `Engine.generate`.
   */
  async doGenerate(call: LanguageModelV3CallOptions): Promise<LanguageModelV3GenerateResult> {
    const { generation, warnings } = await this.begin(call, call.abortSignal);
    const { text, reasoning = "", toolCalls = [], finishReason, usage } = await generation;
    const content: LanguageModelV3Content[] = [
      ...(reasoning === "" ? [] : [{ type: "reasoning" as const, text: reasoning }]),
      ...(text === "" ? [] : [{ type: "text" as const, text }]),
      ...toolCalls.map(toolCallOf),
    ];
    return { content, finishReason: finishReasonOf(finishReason), usage: usageOf(usage), warnings };
  }

  /**
   * Resolves to the answer to a prompt as a stream, when the first part has been generated. Cancelling the stream ends
   * the generation. What fails later is a part of the type "error"; an abort makes the stream fail.
   *
   * @throws The errors of `doGenerate`.
   */
  async doStream(call: LanguageModelV3CallOptions): Promise<LanguageModelV3StreamResult> {
    const left = new AbortController();
    const signal = call.abortSignal ? AbortSignal.any([call.abortSignal, left.signal]) : left.signal;
    const { generation, warnings } = await this.begin(call, signal);
    const parts = streamParts(await begun(generation), generation, warnings, signal);
    const stream = new ReadableStream({
      async pull(controller) {
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: () => left.abort(),
    });
    return { stream };
  }

  /** Frees the model, unless it was given loaded. The next call loads it again. */
  close(): Promise<void> {
    return this.lazy.close();
  }

  /** Returns the generation as a property, because a promise of it would wait for its result. */
  private async begin(
    call: LanguageModelV3CallOptions,
    signal: AbortSignal | undefined,
  ): Promise<{ generation: Generation; warnings: SharedV3Warning[] }> {
    const messages = messagesOf(call.prompt);
    const model = await loaded(this.lazy, signal);
    const { options, warnings } = chatOptionsOf(call, model);
    return { generation: model.chat(messages, { ...options, signal }), warnings };
  }
}

/** Begins a generation: resolves to its events when the first of them is there. */
async function begun(generation: Generation): Promise<AsyncIterable<GenerationEvent>> {
  const events = generation[Symbol.asyncIterator]();
  const first = await events.next();
  return (async function* () {
    if (first.done) return;
    yield first.value;
    yield* events;
  })();
}
