// The answers to one request: some for each prompt, which the engine generates together.
import { addToolCallDelta, type GeneratedText, type TokenLogprobs } from "../generate/generation.js";
import type { ToolCall, ToolCallDelta } from "../tokenizer/tools.js";
import type { Call } from "./endpoint.js";
import { merge } from "../generate/merge.js";
import type { Observation } from "./observer.js";
import type { SamplingOptions } from "./sampling.js";
import type { ServedLanguageModel } from "./served-models.js";

/** A part of an answer: text, or the reason why the answer ended, which comes last. */
export interface Part {
  /** Index of the answer. */
  index: number;
  text: string;
  reasoning?: string | undefined;
  toolCalls?: readonly ToolCallDelta[] | undefined;
  /** Log-probabilities of the part's tokens, if the request asks for them. */
  logprobs?: readonly TokenLogprobs[] | undefined;
  finishReason: AnswerEnd | null;
}

/** Reason why an answer ended, in OpenAI's words. */
export type AnswerEnd = "stop" | "length" | "tool_calls";

/** A whole answer. */
export interface Answer {
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
  logprobs?: TokenLogprobs[];
  finishReason: AnswerEnd;
}

/** Numbers of tokens that were read and generated. */
export interface Usage {
  promptTokens: number;
  completionTokens: number;
}

/** Answers that are being generated. */
export class Answers {
  readonly usage: Usage = { promptTokens: 0, completionTokens: 0 };
  readonly #parts: AsyncGenerator<Part, void, undefined>;
  #first: IteratorResult<Part, void> | null = null;

  private constructor(
    private readonly served: ServedLanguageModel,
    private readonly call: Call,
    prompts: readonly Int32Array[],
    options: SamplingOptions,
    observation: Observation,
  ) {
    const answers = prompts.map((tokens, i) => this.#answer(tokens, i * (options.n ?? 1), options, observation));
    // Merging costs each token some microtasks.
    this.#parts = this.#observed(answers.length === 1 ? answers[0]! : merge(answers), observation);
  }

  /**
   * Begins to answer the prompts, and resolves when the first part is there. What goes wrong before that, such as a
   * full queue, can therefore still be told by the HTTP status.
   */
  static async begin(
    operation: "chat" | "text_completion",
    served: ServedLanguageModel,
    call: Call,
    prompts: readonly Int32Array[],
    options: SamplingOptions,
  ): Promise<Answers> {
    const answers = new Answers(served, call, prompts, options, call.observer.begin(operation, served.id));
    answers.#first = await answers.#parts.next();
    return answers;
  }

  /** Returns the parts as they come. They can be read once. */
  async *parts(): AsyncGenerator<Part, void, undefined> {
    if (this.#first?.done !== false) return;
    try {
      yield this.#first.value;
      yield* this.#parts;
    } finally {
      // Also if the reader has left before it came to the rest.
      await this.#parts.return();
    }
  }

  /** Resolves to the whole answers. */
  async all(): Promise<Answer[]> {
    const answers: Answer[] = [];
    for await (const { index, text, reasoning, toolCalls, logprobs, finishReason } of this.parts()) {
      const answer = (answers[index] ??= { text: "", reasoning: "", toolCalls: [], finishReason: "stop" });
      answer.text += text;
      answer.reasoning += reasoning ?? "";
      for (const delta of toolCalls ?? []) addToolCallDelta(answer.toolCalls, delta);
      if (logprobs) (answer.logprobs ??= []).push(...logprobs);
      if (finishReason) answer.finishReason = finishReason;
    }
    return answers;
  }

  async *#answer(
    tokens: Int32Array,
    first: number,
    options: SamplingOptions,
    observation: Observation,
  ): AsyncGenerator<Part, void, undefined> {
    const { engine, adapter } = this.served;
    const generation = engine.generate({ ...options, tokens, adapter, signal: this.call.signal });
    let ended = false;
    for await (const { choice, tokens, finishReason, ...part } of generation) {
      this.usage.completionTokens += tokens.length;
      observation.tokens(tokens.length);
      // Several texts end at different times, and each event says so.
      ended ||= finishReason !== undefined;
      yield { ...part, index: first + choice, finishReason: finishReason ? endOf(finishReason) : null };
    }
    const { finishReason, usage } = await generation;
    this.usage.promptTokens += usage.promptTokens;
    if (!ended) yield { index: first, text: "", finishReason: endOf(finishReason) };
  }

  async *#observed(parts: AsyncGenerator<Part>, observation: Observation): AsyncGenerator<Part, void, undefined> {
    const finishReasons: string[] = [];
    // It stays so if the reader leaves.
    let failure: unknown = new DOMException("Nobody waits for the answer any more.", "AbortError");
    try {
      for await (const part of parts) {
        if (part.finishReason) finishReasons.push(part.finishReason);
        yield part;
      }
      failure = undefined;
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      observation.end({ ...this.usage, finishReasons }, failure);
    }
  }
}

function endOf(reason: GeneratedText["finishReason"]): AnswerEnd {
  if (reason === "tool-calls") return "tool_calls";
  return reason === "length" ? "length" : "stop";
}
