// The value that `generate` returns: a promise of the whole text that is also an iterator over its parts.
import { append } from "../util/append.js";
import { HeedError } from "../util/errors.js";
import type { ToolCall, ToolCallDelta } from "../tokenizer/tools.js";
import { EventReader, type EventsOf } from "./event-reader.js";
import { LogprobRows } from "./logprob-rows.js";
import type { FinishReason } from "./sequence.js";
import type { TokenLogprob, TokenLogprobs } from "./token-logprobs.js";

export type { TokenLogprob, TokenLogprobs };

/** A part of a text that is being generated: the text that has been added since the event before it. */
export interface GenerationEvent {
  /** Index of the text that the event belongs to: 0, unless the option `n` asks for several texts. */
  choice: number;
  /**
   * The text that has been added. It never ends within a character. It is empty if what has been added is reasoning or a
   * call of a tool, if the last tokens have no text, or if there is no tokenizer.
   */
  text: string;
  /** Reasoning that has been added, in the answer to a conversation. */
  reasoning?: string;
  /** Parts of calls of tools that have been added, in the answer to a conversation. */
  toolCalls?: ToolCallDelta[];
  /** The tokens of this text, including earlier ones that did not complete any text. */
  tokens: number[];
  /** Log-probabilities of these tokens, if the option `logprobs` asks for them. */
  logprobs?: TokenLogprobs[];
  /** Reason why the text ended, in the last event of each text if the option `n` asks for several. */
  finishReason?: FinishReason;
}

/** A text that has been generated. */
export interface GeneratedText {
  /**
   * The text that was generated. With `echo`, it begins with the prompt. The answer to a conversation lacks the reasoning
   * and the calls of tools.
   */
  text: string;
  /** Reasoning before the answer to a conversation, if there is any. */
  reasoning?: string;
  /** Calls of tools in the answer to a conversation, if there are any. */
  toolCalls?: ToolCall[];
  /** The tokens that were generated, without the stop token. */
  tokens: number[];
  /** Log-probabilities of these tokens, if the option `logprobs` asks for them. */
  logprobs?: TokenLogprobs[];
  /** Reason why the text ended; "cancelled" if the loop over its events was left early. */
  finishReason: FinishReason | "cancelled";
}

/** The result of a generation: its text, or the first of several. */
export interface GenerationResult extends GeneratedText {
  /** All texts: one, unless the option `n` asks for several. */
  choices: GeneratedText[];
  /** Numbers of tokens that were read and generated. */
  usage: {
    /** The number of tokens of the prompt. */
    promptTokens: number;
    /** The number of these tokens that an engine had computed for earlier requests; 0 without an engine. */
    cachedTokens: number;
    /** The number of tokens of all texts. */
    completionTokens: number;
  };
}

/** Facts about a generation that its events lack. */
export interface GenerationEnd {
  promptTokens: number;
  /** Number of tokens of the prompt that the first text has not computed. */
  cachedTokens: number;
  /** Reason why each text ended; undefined for one that has not. */
  readonly finishReasons: (FinishReason | undefined)[];
}

/** Begins a generation: resolves to its events, and stores what they lack in `end`. */
export type GenerationEvents = (end: GenerationEnd) => Promise<AsyncGenerator<GenerationEvent, void, undefined>>;

/**
 * A text to be generated, as `generate` returns it. Await it for the whole result, or iterate over it for the events as
 * they come. Nothing is computed before.
 *
 * The events can be iterated over only once. Awaiting always gives the same result, however often, even during or after
 * the iteration. Leaving the loop early ends the generation and frees its memory.
 *
 * @example
 * const { text, finishReason } = await generate(gpt, tokenizer, "Call me", { maxTokens: 20 });
 * const generation = generate(gpt, tokenizer, "Call me", { maxTokens: 20 });
 * for await (const { text } of generation) process.stdout.write(text);
 */
export class Generation implements Promise<GenerationResult>, AsyncIterable<GenerationEvent> {
  readonly [Symbol.toStringTag] = "Generation";
  readonly #events: GenerationEvents;
  readonly #end: GenerationEnd = { promptTokens: 0, cachedTokens: 0, finishReasons: [] };
  readonly #choices: GeneratedText[];
  /** Log-probabilities of each text's tokens; empty if they were not asked for. */
  readonly #logprobs: LogprobRows[];
  readonly #settled: Promise<GenerationResult>;
  #resolve!: (result: GenerationResult) => void;
  #reject!: (error: unknown) => void;
  #begun = false;

  /** @internal Use `generate()`. */
  constructor(events: GenerationEvents, choices = 1, logprobs = false) {
    this.#events = events;
    this.#choices = Array.from({ length: choices }, () => ({
      ...{ text: "", tokens: [], finishReason: "cancelled" },
    }));
    this.#logprobs = logprobs ? this.#choices.map(() => new LogprobRows()) : [];
    this.#settled = new Promise((resolve, reject) => {
      [this.#resolve, this.#reject] = [resolve, reject];
    });
    // The loop has thrown the error already, so its rejection counts as handled, also if nobody awaits the result.
    this.#settled.catch(() => undefined);
  }

  /**
   * Returns the events as they come.
   *
   * @throws ERR_ARGUMENT if the events are read a second time.
   */
  [Symbol.asyncIterator](): AsyncGenerator<GenerationEvent, void, undefined> {
    return this.#read();
  }

  /**
   * @internal Returns the events, which the generation does not keep: it must not be awaited then. When they have ended,
   * `end` has what they lack.
   */
  stream(): { events: AsyncGenerator<GenerationEvent, void, undefined>; end: Readonly<GenerationEnd> } {
    return { events: this.#read(false), end: this.#end };
  }

  /** Resolves to the whole result. Generates the text unless it is already being read. */
  then<T = GenerationResult, E = never>(
    onFulfilled?: ((result: GenerationResult) => T | PromiseLike<T>) | null,
    onRejected?: ((reason: unknown) => E | PromiseLike<E>) | null,
  ): Promise<T | E> {
    return this.#whole().then(onFulfilled, onRejected);
  }

  /** Resolves to the whole result, or to what `onRejected` returns if the generation fails. */
  catch<E = never>(onRejected?: ((reason: unknown) => E | PromiseLike<E>) | null): Promise<GenerationResult | E> {
    return this.#whole().catch(onRejected);
  }

  /** Resolves to the whole result once `onFinally` has been called. */
  finally(onFinally?: (() => void) | null): Promise<GenerationResult> {
    return this.#whole().finally(onFinally);
  }

  /** Resolves to the result. Generates the text unless it is already being read. */
  #whole(): Promise<GenerationResult> {
    if (!this.#begun) void drain(this.#read());
    return this.#settled;
  }

  #read(keeps = true): AsyncGenerator<GenerationEvent, void, undefined> {
    let first = false;
    const begin: EventsOf<GenerationEvent> = async () => {
      if (this.#begun)
        throw new HeedError(
          "ERR_ARGUMENT",
          "generate: expected the events of a generation to be read once, got a second reader; await the generation for " +
            "the whole text",
        );
      first = this.#begun = true;
      return await this.#events(this.#end);
    };
    return new EventReader(begin, {
      event: (event) => {
        if (keeps) this.#note(event);
      },
      end: () => this.#resolve(this.#result()),
      error: (error) => {
        // The error of a second reader does not concern the result.
        if (first) this.#reject(error);
      },
    });
  }

  /** Adds an event to the text that it belongs to. */
  #note(event: GenerationEvent): void {
    const choice = this.#choices[event.choice]!;
    choice.text += event.text;
    if (event.reasoning) choice.reasoning = (choice.reasoning ?? "") + event.reasoning;
    for (const delta of event.toolCalls ?? []) addToolCallDelta((choice.toolCalls ??= []), delta);
    append(choice.tokens, event.tokens);
    for (const one of event.logprobs ?? []) this.#logprobs[event.choice]?.push(one);
  }

  #result(): GenerationResult {
    const { promptTokens, cachedTokens, finishReasons } = this.#end;
    const choices = this.#choices;
    for (const [i, choice] of choices.entries()) {
      choice.finishReason = finishReasons[i] ?? "cancelled";
      const logprobs = this.#logprobs[i];
      if (logprobs) choice.logprobs = [...logprobs];
    }
    const completionTokens = choices.reduce((sum, { tokens }) => sum + tokens.length, 0);
    return { ...choices[0]!, choices, usage: { promptTokens, cachedTokens, completionTokens } };
  }
}

/** @internal Adds a part of a call to the calls of a text. */
export function addToolCallDelta(
  calls: ToolCall[],
  { index, id = "", name = "", arguments: added }: ToolCallDelta,
): void {
  const call = (calls[index] ??= { id, name, arguments: "" });
  call.arguments += added;
}

async function drain(events: AsyncGenerator<GenerationEvent>): Promise<void> {
  try {
    while (!(await events.next()).done);
  } catch {
    // The error reaches the caller that awaits the result.
  }
}
