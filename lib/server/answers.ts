// The answers to one request: some for each prompt, which the engine generates together.
import {
  addToolCallDelta,
  type GeneratedText,
  type Generation,
  type GenerationEnd,
  type GenerationEvent,
  type TokenLogprobs,
} from "../generate/generation.js";
import { LogprobRows } from "../generate/logprob-rows.js";
import type { ToolCall, ToolCallDelta } from "../tokenizer/tools.js";
import type { Call } from "./endpoint.js";
import { merge, type Source } from "../generate/merge.js";
import type { Observation } from "./request-observer.js";
import type { SamplingOptions } from "./sampling.js";
import type { ServedLanguageModel } from "./served-models.js";

/** A part of an answer: text, or the reason why the answer ended, which comes last. */
export interface Part {
  /** Index of the answer. */
  index: number;
  text: string;
  /** Tokens that were generated; undefined at an end that brings none. */
  tokens?: readonly number[] | undefined;
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
  logprobs?: LogprobRows;
  /** Generated tokens, if they were asked for. */
  tokens?: number[];
  finishReason: AnswerEnd;
}

/** Numbers of tokens that were read and generated. */
export interface Usage {
  promptTokens: number;
  /** Number of tokens of the prompts that the prefix cache had. */
  cachedTokens: number;
  completionTokens: number;
  /** Number of the generated tokens that are reasoning; those that mark its ends may count as well. */
  reasoningTokens: number;
}

/** Counts the tokens of reasoning. Tokens whose text is not known yet belong to what their text turns out to be. */
export class ReasoningCount {
  #unknown = 0;

  /** Returns how many tokens are known to be reasoning after an event. */
  add({
    text,
    reasoning,
    toolCalls,
    tokens,
  }: Pick<GenerationEvent, "text" | "reasoning" | "toolCalls" | "tokens">): number {
    const count = this.#unknown + tokens.length;
    this.#unknown = reasoning || text !== "" || toolCalls ? 0 : count;
    return reasoning ? count : 0;
  }
}

/** The answers to one prompt, in parts. */
class PromptAnswers implements Source<Part> {
  readonly #generated: Readonly<GenerationEnd>;
  readonly #events: AsyncGenerator<GenerationEvent, void, undefined>;
  /** Counts of the answers, by their index among those to the prompt. */
  readonly #reasoning: ReasoningCount[] = [];
  /** True if an event has said that an answer has ended, as it does if there are several. */
  #said = false;
  #ended = false;

  constructor(
    generation: Generation,
    /** Index of the first of the answers. */
    private readonly first: number,
    private readonly usage: Usage,
    private readonly observation: Observation,
  ) {
    // Parts are sent, or collected elsewhere.
    const { events, end } = generation.stream();
    [this.#events, this.#generated] = [events, end];
  }

  next(): Promise<IteratorResult<Part, void>> {
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return this.#events.next().then(this.#read);
  }

  async return(): Promise<void> {
    this.#ended = true;
    await this.#events.return();
  }

  // An async function would cost each part a promise more.
  readonly #read = ({ done, value }: IteratorResult<GenerationEvent, void>): IteratorResult<Part, void> => {
    if (done) return this.#end();
    const { choice, text, reasoning, toolCalls, tokens, logprobs, finishReason } = value;
    this.usage.completionTokens += tokens.length;
    this.usage.reasoningTokens += (this.#reasoning[choice] ??= new ReasoningCount()).add(value);
    this.observation.tokens(tokens.length);
    this.#said ||= finishReason !== undefined;
    const end = finishReason === undefined ? null : endOf(finishReason);
    return { value: { index: this.first + choice, text, tokens, reasoning, toolCalls, logprobs, finishReason: end } };
  };

  #end(): IteratorResult<Part, void> {
    this.#ended = true;
    const { finishReasons, promptTokens, cachedTokens } = this.#generated;
    this.usage.promptTokens += promptTokens;
    this.usage.cachedTokens += cachedTokens;
    if (this.#said) return { done: true, value: undefined };
    return { value: { index: this.first, text: "", finishReason: endOf(finishReasons[0] ?? "cancelled") } };
  }
}

/** Answers that are being generated. Each token passes through here, so there is one promise a part. */
export class Answers {
  readonly usage: Usage = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, reasoningTokens: 0 };
  readonly #parts: Source<Part>;
  readonly #finishReasons: string[] = [];
  readonly #promptTokens: number;
  #observation: Observation | null;
  #first: Part | null = null;

  private constructor(
    served: ServedLanguageModel,
    call: Call,
    prompts: readonly Int32Array[],
    options: SamplingOptions,
    observation: Observation,
  ) {
    const { engine, adapter } = served;
    const own = {
      ...options,
      adapter,
      adapterHeld: adapter !== undefined,
      cacheSalt: saltOf(call.tenant, options.cacheSalt),
      signal: call.signal,
    };
    this.#promptTokens = prompts.reduce((sum, { length }) => sum + length, 0);
    const answers = prompts.map((tokens, i) => {
      const generation = engine.generate({ ...own, tokens });
      return new PromptAnswers(generation, i * (options.n ?? 1), this.usage, observation);
    });
    this.#parts = answers.length === 1 ? answers[0]! : merge(answers);
    this.#observation = observation;
  }

  /** The numbers before the end, which alone tells what the prefix cache had. */
  get usageSoFar(): Usage {
    return { ...this.usage, promptTokens: this.#promptTokens };
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
    const observation = call.observer.begin(operation, served.id);
    let answers: Answers;
    try {
      answers = new Answers(served, call, prompts, options, observation);
    } catch (error) {
      observation.end({ promptTokens: 0, completionTokens: 0, finishReasons: [] }, error);
      throw error;
    }
    answers.#first = await answers.next();
    return answers;
  }

  /** Resolves to the next part, or to null at the end. */
  next(): Promise<Part | null> {
    const first = this.#first;
    this.#first = null;
    if (first || !this.#observation) return Promise.resolve(first);
    return this.#parts.next().then(this.#read, this.#fail);
  }

  readonly #read = ({ done, value }: IteratorResult<Part, void>): Part | null => {
    if (done) this.#end();
    else if (value.finishReason) this.#finishReasons.push(value.finishReason);
    return value ?? null;
  };

  readonly #fail = (error: unknown): never => {
    this.#end(error);
    throw error;
  };

  /** Ends the answers, if they have not ended. Whoever reads them must call it when it reads no more. */
  async leave(): Promise<void> {
    // Most answers have ended, and an exception takes as long as some tokens.
    if (this.#observation) this.#end(new DOMException("Nobody waits for the answer any more.", "AbortError"));
    await this.#parts.return();
  }

  /** Resolves to the whole answers, with their tokens if `withTokens` is true. */
  async all(withTokens = false): Promise<Answer[]> {
    const answers: Answer[] = [];
    for (let part = await this.next(); part; part = await this.next()) {
      const { index, text, tokens, reasoning, toolCalls, logprobs, finishReason } = part;
      const answer = (answers[index] ??= { text: "", reasoning: "", toolCalls: [], finishReason: "stop" });
      answer.text += text;
      if (reasoning) answer.reasoning += reasoning;
      if (toolCalls) for (const delta of toolCalls) addToolCallDelta(answer.toolCalls, delta);
      if (logprobs) for (const one of logprobs) (answer.logprobs ??= new LogprobRows()).push(one);
      if (withTokens) (answer.tokens ??= []).push(...(tokens ?? []));
      if (finishReason) answer.finishReason = finishReason;
    }
    return answers;
  }

  #end(error?: unknown): void {
    const observation = this.#observation;
    this.#observation = null;
    observation?.end({ ...this.usage, finishReasons: this.#finishReasons }, error);
  }
}

/** Returns the engine's salt: no salt of a client is that of another one. */
export function saltOf(tenant: string | null, salt: string | undefined): string | undefined {
  return tenant === null && salt === undefined ? undefined : JSON.stringify([tenant, salt ?? null]);
}

function endOf(reason: GeneratedText["finishReason"]): AnswerEnd {
  if (reason === "tool-calls") return "tool_calls";
  return reason === "length" ? "length" : "stop";
}
