import type { TokenSettings } from "../generate/options.js";
import type { FinishReason, Sequence } from "../generate/sequence.js";
import type { RowSampling } from "../ops/sample.js";

/** A sequence that the engine continues. */
export class Request {
  /** The prompt and the tokens that were generated after it. */
  readonly tokens: number[];
  /** Number of tokens that are the prompt's. */
  readonly prompt: number;
  /** Maximum number of tokens to generate. */
  readonly limit: number;
  /** Index of its first random number in the seed's sequence. */
  readonly stream: number;
  readonly settings: TokenSettings;
  /** Requests with a higher priority go first. */
  readonly priority: number;
  /** Number of the request in the order of arrival. */
  readonly arrival: number;
  /** Pages with the keys and values of the first `computed` tokens, and room for more. */
  pages: number[] = [];
  /** Number of tokens whose keys and values are in the pages. */
  computed = 0;
  /** Number of its pages that the prefix cache knows. */
  registered = 0;
  /** State of the request: it gets no more tokens unless this is null. */
  end: FinishReason | "diverged" | "cancelled" | { error: unknown } | null = null;
  #wake: (() => void) | null = null;

  constructor({ tokens, prompt, limit, stream }: Sequence, settings: TokenSettings, priority: number, arrival: number) {
    this.tokens = [...tokens];
    this.prompt = prompt;
    this.limit = limit;
    this.stream = stream;
    this.settings = settings;
    this.priority = priority;
    this.arrival = arrival;
  }

  /** Number of tokens that were generated. */
  get generated(): number {
    return this.tokens.length - this.prompt;
  }

  /** Number of tokens whose keys and values the next step has to compute. */
  get pending(): number {
    return this.tokens.length - this.computed;
  }

  /** Adds a sampled token. -1 stands for a row whose logits have no distribution. */
  accept(token: number): void {
    if (token < 0) this.end = "diverged";
    else if (this.settings.stopTokens.has(token)) this.end = "stop";
    else {
      this.tokens.push(token);
      if (this.generated >= this.limit) this.end = "length";
    }
    this.notify();
  }

  /** Ends the request, if it has not ended. */
  finish(end: Request["end"]): void {
    this.end ??= end;
    this.notify();
  }

  /** Wakes the reader of the tokens. */
  notify(): void {
    this.#wake?.();
    this.#wake = null;
  }

  /** Resolves when there are more than `count` generated tokens, or when the request has ended. */
  async more(count: number): Promise<void> {
    while (this.generated <= count && this.end === null)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
  }
}

/** Orders requests: the higher priority first, then the earlier arrival. */
export function before(a: Request, b: Request): number {
  return b.priority - a.priority || a.arrival - b.arrival;
}

/** Returns how a request's tokens are drawn. */
export function samplingOf({ settings: { sampling, seed } }: Request): Required<RowSampling> {
  return { ...sampling, seed };
}
