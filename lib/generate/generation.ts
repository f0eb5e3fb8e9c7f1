// What a call that generates a text returns.
import { HeedError } from "../errors.js";
import type { FinishReason } from "./sequence.js";

/** A part of a text that is being generated: what has been added since the event before it. */
export interface GenerationEvent {
  /** Never ends within a character. Empty only where the last tokens show no text, and where there is no tokenizer. */
  text: string;
  /** The tokens whose text this is, and those before them that showed none by themselves. */
  tokens: number[];
}

export interface GenerationResult {
  /** The text that was generated. With `echo`, it begins with the prompt. */
  text: string;
  /** The tokens that were generated, without the stop token. */
  tokens: number[];
  /** Why the text ended; "cancelled" where the loop over its events was left before its end. */
  finishReason: FinishReason | "cancelled";
  usage: {
    /** The number of tokens of the prompt. */
    promptTokens: number;
    /** The number of `tokens`. */
    completionTokens: number;
  };
}

/** Yields the events of a text, and notes what is not in them, the finish reason and the prompt's tokens, in `result`. */
export type GenerationEvents = (result: GenerationResult) => AsyncGenerator<GenerationEvent, void, undefined>;

/**
 * A text to be generated. Await it for the whole result, or iterate over it for the events as they come:
 *
 * ```ts
 * const { text, finishReason } = await generate(model, tokenizer, "Call me");
 * for await (const { text } of generate(model, tokenizer, "Call me")) process.stdout.write(text);
 * ```
 *
 * Nothing is computed before one of both. The events can be iterated over once; awaiting resolves to the same result however
 * often, also after or during the iteration. Leaving the loop ends the generation and frees its memory.
 */
export class Generation implements Promise<GenerationResult>, AsyncIterable<GenerationEvent> {
  readonly [Symbol.toStringTag] = "Generation";
  readonly #events: AsyncGenerator<GenerationEvent, void, undefined>;
  readonly #result: GenerationResult = {
    text: "",
    tokens: [],
    finishReason: "cancelled",
    usage: { promptTokens: 0, completionTokens: 0 },
  };
  readonly #settled: Promise<GenerationResult>;
  #resolve!: (result: GenerationResult) => void;
  #reject!: (error: unknown) => void;
  #begun = false;

  /** @internal Use `generate()`. */
  constructor(events: GenerationEvents) {
    this.#events = events(this.#result);
    this.#settled = new Promise((resolve, reject) => {
      [this.#resolve, this.#reject] = [resolve, reject];
    });
    // The loop has thrown the error already; only those who await the result are told again.
    this.#settled.catch(() => undefined);
  }

  [Symbol.asyncIterator](): AsyncGenerator<GenerationEvent, void, undefined> {
    return this.#read();
  }

  then<T = GenerationResult, E = never>(
    onFulfilled?: ((result: GenerationResult) => T | PromiseLike<T>) | null,
    onRejected?: ((reason: unknown) => E | PromiseLike<E>) | null,
  ): Promise<T | E> {
    return this.#whole().then(onFulfilled, onRejected);
  }

  catch<E = never>(onRejected?: ((reason: unknown) => E | PromiseLike<E>) | null): Promise<GenerationResult | E> {
    return this.#whole().catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<GenerationResult> {
    return this.#whole().finally(onFinally);
  }

  /** The result, for which the text is generated unless somebody reads it already. */
  #whole(): Promise<GenerationResult> {
    if (!this.#begun) void drain(this.#read());
    return this.#settled;
  }

  async *#read(): AsyncGenerator<GenerationEvent, void, undefined> {
    if (this.#begun)
      throw new HeedError(
        "ERR_ARGUMENT",
        "generate: expected the events of a text to be read once, got a second reader; await it for the whole text",
      );
    this.#begun = true;
    const result = this.#result;
    try {
      for await (const event of this.#events) {
        result.text += event.text;
        result.tokens.push(...event.tokens);
        result.usage.completionTokens = result.tokens.length;
        yield event;
      }
    } catch (error) {
      this.#reject(error);
      throw error;
    } finally {
      // After a rejection this does nothing.
      this.#resolve(result);
    }
  }
}

async function drain(events: AsyncGenerator<GenerationEvent>): Promise<void> {
  try {
    while (!(await events.next()).done);
  } catch {
    // Who awaits the result gets the error.
  }
}
