import { createHash } from "node:crypto";
import { asHeedError, describe, HeedError } from "../util/errors.js";
import { asFormatError } from "../structured/work.js";
import type { BankedAdapter } from "../adapters/adapter-bank.js";
import type { NextTokens } from "../structured/constraint.js";
import type { Drawn } from "../generate/draws.js";
import { LogprobRows } from "../generate/logprob-rows.js";
import type { TokenSettings } from "../generate/options.js";
import { type FinishReason, keptTokens, type Sequence } from "../generate/sequence.js";
import type { Losses } from "./read-losses.js";
import type { Scoring } from "./scoring.js";

/** Options that a request has besides those of its text. */
export interface RequestSettings extends TokenSettings {
  /** Requests with a higher priority go first. */
  readonly priority: number;
  /** Time after which nobody waits for the tokens any more, in milliseconds since the epoch. */
  readonly deadline: number;
  /** Number of most likely tokens whose log-probabilities are read; null if none are read. */
  readonly logprobs: number | null;
  /** True if tokens may be drafted for the request. */
  readonly speculation: boolean;
  /** Name of an adapter of the model; null for none, undefined for the active one. */
  readonly adapter: string | null | undefined;
  /** Text that requests must have in common to share keys and values; undefined if they need none. */
  readonly cacheSalt?: string | undefined;
}

/** Reason why a request has ended; null if it has not. */
type End = FinishReason | "diverged" | "cancelled" | { readonly error: unknown } | null;

/** A sequence that the engine continues. */
export class Request {
  /**
   * The prompt and the tokens that were generated after it. Requests for answers to one prompt share it until they begin.
   */
  tokens: readonly number[];
  /** Number of tokens that are the prompt's. */
  readonly prompt: number;
  /** Maximum number of tokens to generate. */
  readonly limit: number;
  /** Index of its first random number in the seed's sequence. */
  readonly stream: number;
  readonly settings: RequestSettings;
  /** Form that the text has to have; null if it has none. */
  readonly constraint: NextTokens | null;
  /** Tokens that the request scores; null if it generates tokens. */
  readonly scoring: Scoring | null;
  /** Number of the request in the order of arrival. */
  readonly arrival: number;
  /** Log-probabilities of the generated tokens, if they are read. */
  readonly logprobs = new LogprobRows();
  /** Times in milliseconds, as `performance.now()` gives them. */
  readonly times = { arrival: performance.now(), start: NaN, firstToken: NaN, lastToken: NaN };
  /** Number of the prompt's tokens that the prefix cache had when the request began. */
  cachedTokens = 0;
  /** Number of tokens at the beginning that the model does not see any more. */
  forgotten = 0;
  /** Pages with the keys and values of the first `computed` tokens that are not forgotten, and room for more. */
  pages: number[] = [];
  /** Number of tokens whose keys and values are in the pages. */
  computed = 0;
  /** Number of its pages that the prefix cache knows. */
  registered = 0;
  /** Adapter with which its tokens are computed; null for none. */
  adapter: BankedAdapter | null = null;
  /** True if tokens may be drafted for it. */
  speculates: boolean;
  /** The tokens once they are no other request's. */
  #own: number[] | null = null;
  /** Function that is called when the request ends, whether or not its tokens have been read. */
  onEnd: (() => void) | null = null;
  #end: End = null;
  #wake: (() => void) | null = null;
  readonly #salt: string;

  constructor(
    {
      tokens,
      prompt,
      limit,
      stream,
      constraint,
    }: Pick<Sequence, "tokens" | "prompt" | "limit" | "stream" | "constraint">,
    settings: RequestSettings,
    arrival: number,
    scoring: Scoring | null = null,
  ) {
    this.tokens = tokens;
    this.prompt = prompt;
    this.limit = limit;
    this.stream = stream;
    this.settings = settings;
    this.constraint = constraint;
    this.scoring = scoring;
    // What may follow a draft is not known before the draft is accepted.
    this.speculates = settings.speculation && constraint === null && scoring === null;
    this.arrival = arrival;
    const { cacheSalt } = settings;
    // Salts may be long; each cached page of a prompt's beginning has it in its key.
    this.#salt = cacheSalt === undefined ? "" : `.${createHash("sha256").update(cacheSalt).digest("base64url")}`;
  }

  /** State of the request: it gets no more tokens unless this is null. */
  get end(): End {
    return this.#end;
  }

  /** Number of tokens that were generated. */
  get generated(): number {
    return this.tokens.length - this.prompt;
  }

  /** True if it has got a token or a score. */
  get begun(): boolean {
    return this.generated > 0 || (this.scoring?.begun ?? false);
  }

  /** Number of tokens whose keys and values may come from the prefix cache, since their logits are not needed. */
  get reusable(): number {
    return this.scoring ? this.scoring.next - 1 : this.length - 1;
  }

  /** Tokens that the model sees. */
  get visible(): readonly number[] {
    return this.forgotten === 0 ? this.tokens : this.tokens.slice(this.forgotten);
  }

  /** Number of tokens that the model sees. */
  get length(): number {
    return this.tokens.length - this.forgotten;
  }

  /** Number of tokens whose keys and values the next step has to compute. */
  get pending(): number {
    return this.length - this.computed;
  }

  /** Number that tells apart requests whose tokens have other keys and values because they use other adapters. */
  get adapterId(): number {
    return this.adapter?.id ?? 0;
  }

  /** Text that requests have in common which may share keys and values. */
  get root(): string {
    return `${this.adapterId}${this.#salt}`;
  }

  /** Returns `count` tokens from the first one whose keys and values are not computed. */
  next(count: number): number[] {
    const first = this.forgotten + this.computed;
    return this.tokens.slice(first, first + count);
  }

  /** Parts its tokens from those of other requests for answers to its prompt. Returns them. */
  begin(): number[] {
    return (this.tokens = this.#own ??= this.tokens.slice());
  }

  /** Adds a token. */
  add(token: number): void {
    this.begin().push(token);
  }

  /** Removes all tokens but the first `count`. */
  keep(count: number): void {
    this.begin().length = count;
  }

  /** Forgets all but the latest tokens: half of a context that they fill. The pages must have been freed. */
  forget(contextLength: number): void {
    this.forgotten = this.tokens.length - keptTokens(contextLength);
  }

  /** Takes the loss of the next scored token in a row, with the most likely tokens in the place of that token. */
  acceptScore({ losses, choices, likeliest }: Losses, row: number): void {
    if (this.end !== null) return;
    if (!this.scoring!.accept(losses[row]!, choices[row]!, (count) => likeliest(row, count))) this.finish("diverged");
    else if (this.scoring!.done) this.finish("stop");
  }

  /** Takes the token that was drawn in a row; `now` is the time as `performance.now()` gives it. */
  accept(drawn: Drawn, row: number, now: number): void {
    const token = drawn.ids[row]!;
    if (token < 0) this.finish("diverged");
    else if (this.settings.stopTokens.has(token)) this.finish("stop");
    else {
      const logprobs = drawn.logprobs(row);
      if (logprobs) this.logprobs.push(logprobs);
      this.add(token);
      this.times.lastToken = now;
      if (this.generated === 1) this.times.firstToken = now;
      this.finish(this.#endAfter(token));
    }
  }

  #endAfter(token: number): End {
    try {
      this.constraint?.accept(token);
    } catch (error) {
      return { error: asHeedError("generate", asFormatError(error)) };
    }
    if (this.constraint?.ended) return "stop";
    return this.generated >= this.limit ? "length" : null;
  }

  /** Ends the request, unless it has ended or `end` is null, and wakes the reader of its tokens. */
  finish(end: End): void {
    this.#end ??= end;
    this.notify();
    if (this.#end === null) return;
    this.onEnd?.();
    this.onEnd = null;
  }

  /** Wakes the reader of the tokens. */
  notify(): void {
    this.#wake?.();
    this.#wake = null;
  }

  /**
   * Resolves when there are more than `count` generated tokens, or when the request has ended; null if that is so
   * already. It is called for every token, and an async function would cost each of them some microtasks.
   */
  more(count: number): Promise<void> | null {
    if (this.generated > count || this.end !== null) return null;
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/**
 * Checks the salt of a request.
 *
 * @throws ERR_ARGUMENT if it is neither undefined nor a text that is not empty.
 */
export function checkSalt(op: string, salt: unknown): void {
  if (salt !== undefined && (typeof salt !== "string" || salt === ""))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected cacheSalt to be a text that is not empty, got ${describe(salt)}`,
    );
}

/** Orders requests: the higher priority first, then the earlier arrival. */
export function before(a: Request, b: Request): number {
  return b.settings.priority - a.settings.priority || a.arrival - b.arrival;
}
