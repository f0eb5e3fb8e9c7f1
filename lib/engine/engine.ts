import { checkInteger, checkNumber, checkObject } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { encodePrompt, generateFrom } from "../generate/generate-text.js";
import type { Generation } from "../generate/generation.js";
import type { TextOptions, TokenSettings } from "../generate/options.js";
import type { Sequence } from "../generate/sequence.js";
import { CausalDecoder } from "../models/causal-decoder.js";
import type { GPT } from "../models/gpt.js";
import type { Llama } from "../models/llama.js";
import type { KvPages } from "../nn/kv-pages.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { DecodeSteps } from "./decode-steps.js";
import { PageTable } from "./page-table.js";
import { Request } from "./request.js";
import { Scheduler, type Work } from "./scheduler.js";
import { runStep } from "./step.js";

/** Options of an `Engine`. */
export interface EngineOptions {
  /** Tokenizer of the model. Without one (null), prompts must be tokens. @default null */
  tokenizer?: Tokenizer | null;
  /** Options of requests that do not set them, such as the tokens that end a text. @default {} */
  defaults?: TextOptions;
  /**
   * Largest number of tokens that a step computes. Long prompts are computed in pieces, so that others need not wait.
   *
   * @default 512
   */
  maxBatchTokens?: number;
  /** Largest number of requests that run at the same time. @default 64 */
  maxSequences?: number;
  /**
   * Largest number of requests that wait. A further one is refused (ERR_BUSY).
   *
   * @default 1024
   */
  maxQueue?: number;
  /**
   * Bytes of memory for keys and values; at least one sequence of the whole context must fit.
   *
   * @default room for 16 sequences of the whole context, but at most 1 GiB unless one sequence needs more
   */
  kvMemory?: number;
  /** Number of tokens of a page of that memory. Requests share whole pages. @default 64 */
  pageSize?: number;
}

/** A request to an `Engine`: a prompt, or its tokens, with options. */
export interface EngineRequest extends Omit<TextOptions, "overflow" | "echo" | "onToken"> {
  /** Text to continue. */
  prompt?: string;
  /** Tokens to continue, instead of a text. */
  tokens?: ArrayLike<number>;
  /** Requests with a higher priority are served first. @default 0 */
  priority?: number;
}

/** Figures about an `Engine`. */
export interface EngineMetrics {
  /** Requests that wait. */
  waiting: number;
  /** Requests that run. */
  running: number;
  /** Pages of KV memory. */
  pages: number;
  /** Pages that requests use. */
  pagesUsed: number;
  /** Pages that more than one request uses. */
  pagesShared: number;
  /** Steps since the engine was created. */
  steps: number;
  /** Tokens that were computed since then, of prompts and of answers. */
  computedTokens: number;
  /** Tokens of prompts that did not have to be computed, because the prefix cache had them. */
  cachedTokens: number;
  /** Tokens that were generated. */
  generatedTokens: number;
  /** Number of times that a request lost its pages to another, so that its tokens were computed again. */
  preemptions: number;
}

/**
 * Serves many requests to one model at the same time. Each step computes one batch of tokens of all running requests;
 * requests join and leave at every step. Keys and values lie in pages, which requests with the same beginning share.
 *
 * On the CPU, a request gets exactly the tokens that it would get alone, with the same seed. On CUDA, the last bits of
 * its logits may still depend on the other requests.
 *
 * @example
 * await using engine = new Engine(gpt, { tokenizer });
 * const texts = ["Call me", "The whale"].map((prompt) => engine.generate({ prompt, maxTokens: 8, seed: 1 }));
 * for (const { text } of await Promise.all(texts)) console.log(text);
 */
export class Engine implements AsyncDisposable {
  readonly #model: CausalDecoder;
  readonly #tokenizer: Tokenizer | null;
  readonly #defaults: TextOptions;
  readonly #maxQueue: number;
  #memory: KvPages;
  readonly #table: PageTable;
  readonly #scheduler: Scheduler;
  /** Recorded steps of one token, by the number of rows and pages that they have room for. */
  readonly #recorded = new Map<string, DecodeSteps>();
  #arrivals = 0;
  #steps = 0;
  #computed = 0;
  #generated = 0;
  #loop: Promise<void> | null = null;
  #closed = false;

  /**
   * Creates an engine for a model, which stays the caller's. While the engine is open, the model must not be disposed.
   *
   * @throws ERR_ARGUMENT if the model is not a `GPT` or `Llama`; ERR_RANGE if an option is out of range.
   */
  constructor(model: GPT | Llama, options: EngineOptions = {}) {
    if (!(model instanceof CausalDecoder))
      throw new HeedError("ERR_ARGUMENT", `Engine: expected a GPT or Llama, got ${describe(model)}`);
    checkObject("Engine", "options", options);
    const { tokenizer = null, defaults = {}, maxBatchTokens = 512, maxSequences = 64, maxQueue = 1024 } = options;
    const { pageSize = 64 } = options;
    checkInteger("Engine", "maxBatchTokens", maxBatchTokens, 1);
    checkInteger("Engine", "maxSequences", maxSequences, 1);
    checkInteger("Engine", "maxQueue", maxQueue, 0);
    checkInteger("Engine", "pageSize", pageSize, 1);
    checkObject("Engine", "defaults", defaults);
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#defaults = defaults;
    this.#maxQueue = maxQueue;
    this.#table = new PageTable(pagesFor(model, pageSize, options.kvMemory), pageSize);
    this.#memory = this.#createMemory();
    this.#scheduler = new Scheduler(this.#table, { maxBatchTokens, maxSequences });
  }

  /** Current figures. */
  get metrics(): EngineMetrics {
    this.#scheduler.removeEnded();
    const { pages, used: pagesUsed, shared: pagesShared } = this.#table;
    const { waiting, running, preemptions, cachedTokens } = this.#scheduler;
    return {
      ...{ waiting, running, pages, pagesUsed, pagesShared, steps: this.#steps, computedTokens: this.#computed },
      ...{ cachedTokens, generatedTokens: this.#generated, preemptions },
    };
  }

  /**
   * Continues a prompt. Await the result for the whole text, or iterate over it for its parts as they come. The request
   * joins the others when the result is first read.
   *
   * @example
   * await using engine = new Engine(gpt, { tokenizer });
   * for await (const { text } of engine.generate({ prompt: "Call me", maxTokens: 20 })) process.stdout.write(text);
   *
   * @throws ERR_ARGUMENT or ERR_RANGE at the call if an option is invalid, and when the text is read if the prompt is.
   * @throws ERR_BUSY, when the text is read, if `maxQueue` requests wait already or the engine was closed.
   * @throws the signal's reason, when the text is read, if the signal aborts.
   * @throws ERR_DIVERGED, when the text is read, if the model diverges.
   */
  generate(request: EngineRequest): Generation {
    checkObject("generate", "request", request);
    const { prompt, tokens, priority = 0, ...options } = request;
    checkNumber("generate", "priority", priority);
    const source = (sequence: Sequence, settings: TokenSettings): AsyncIterable<number> =>
      this.#tokens(sequence, settings, priority);
    const { overflow } = options as TextOptions;
    if (overflow === "slide")
      throw new HeedError("ERR_ARGUMENT", 'generate: expected an engine\'s overflow to be "error", got "slide"');
    const chosen = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    const given: TextOptions = { ...this.#defaults, ...chosen, overflow: "error", echo: false };
    return generateFrom(this.#model, this.#tokenizer, this.#promptOf(prompt, tokens), given, null, source);
  }

  /** Refuses new requests, and resolves when those that it has are done and its memory is free. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#loop;
    this.#freeMemory();
  }

  /** Does the same as `close()`, at the end of the block that declares it with `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Returns a function that returns the prompt's tokens. */
  #promptOf(prompt: string | undefined, tokens: ArrayLike<number> | undefined): () => Int32Array | Promise<Int32Array> {
    if ((prompt === undefined) === (tokens === undefined))
      throw new HeedError(
        "ERR_ARGUMENT",
        `generate: expected one of prompt and tokens, got ${prompt === undefined ? "none" : "both"}`,
      );
    if (tokens !== undefined) {
      const list = Int32Array.from(tokens);
      return () => list;
    }
    const tokenizer = this.#tokenizer;
    if (typeof prompt !== "string" || !tokenizer)
      throw new HeedError(
        "ERR_ARGUMENT",
        tokenizer
          ? `generate: expected prompt to be a string, got ${describe(prompt)}`
          : "generate: expected tokens, since the engine has no tokenizer, got a prompt",
      );
    return () => encodePrompt(tokenizer, prompt);
  }

  /** Yields the tokens of a request as they come. */
  async *#tokens(sequence: Sequence, settings: TokenSettings, priority: number): AsyncGenerator<number> {
    const { signal } = settings;
    signal?.throwIfAborted();
    const request = this.#admit(sequence, settings, priority);
    const abort = (): void => request.finish({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    try {
      for (let count = 0; ; count++) {
        await request.more(count);
        if (typeof request.end === "object" && request.end !== null) throw request.end.error;
        if (request.generated <= count) break;
        const token = request.tokens[request.prompt + count]!;
        sequence.tokens.push(token);
        yield token;
        if (sequence.finish !== null) return;
      }
      if (request.end === "diverged") sequence.diverged = true;
      else sequence.finish = request.end as "stop" | "length";
    } finally {
      signal?.removeEventListener("abort", abort);
      request.finish("cancelled");
    }
  }

  #admit(sequence: Sequence, settings: TokenSettings, priority: number): Request {
    if (this.#closed) throw new HeedError("ERR_BUSY", "generate: expected an engine that is open, got a closed one");
    this.#scheduler.removeEnded();
    if (this.#scheduler.waiting >= this.#maxQueue)
      throw new HeedError(
        "ERR_BUSY",
        `generate: expected fewer than ${this.#maxQueue} requests to wait, got as many; try again later`,
      );
    const request = new Request(sequence, settings, priority, this.#arrivals++);
    this.#scheduler.add(request);
    this.#loop ??= this.#run();
    return request;
  }

  /** Runs steps until there are no requests. */
  async #run(): Promise<void> {
    // Requests that are made at the same time join the first step together.
    await Promise.resolve();
    for (let work = this.#scheduler.next(); work.length > 0; work = this.#scheduler.next()) {
      try {
        const recorded = work.length === this.#scheduler.running && this.#scheduler.full && decodes(work);
        await (recorded ? this.#decode(work) : this.#step(work));
      } catch (error) {
        for (const { request } of work) request.finish({ error });
        this.#renewMemory();
      }
    }
    // Nothing is awaited since there was no work, so no request can have come in between.
    this.#loop = null;
  }

  /**
   * Replaces the memory after a step has failed, since a failure stays with the tensors that the step wrote. The other
   * requests are computed again. If there is no memory, all of them fail.
   */
  #renewMemory(): void {
    this.#scheduler.restart();
    this.#table.clear();
    this.#freeMemory();
    try {
      this.#memory = this.#createMemory();
    } catch (error) {
      for (const request of this.#scheduler.all()) request.finish({ error });
    }
  }

  #createMemory(): KvPages {
    return this.#model.createPages(this.#table.pages + 1, this.#table.pageSize); // one page for rows without a request
  }

  #freeMemory(): void {
    for (const steps of this.#recorded.values()) steps.dispose();
    this.#recorded.clear();
    this.#memory.dispose();
  }

  async #step(work: readonly Work[]): Promise<void> {
    const output = runStep(this.#model, this.#memory, work);
    this.#enqueued(work);
    if (!output) return this.#model.device.synchronize();
    using ids = output.ids;
    this.#accept(output.requests, await ids.data());
  }

  /**
   * Runs steps of one token for the same requests, until one of them ends or another one can join. The device runs one
   * step ahead of the host: a step is enqueued before the tokens of the one before it are read. If one of those tokens
   * ends a request, the step computed one token in vain.
   */
  async #decode(work: readonly Work[]): Promise<void> {
    const requests = work.map(({ request }) => request);
    const steps = this.#stepsFor(requests);
    steps.begin(requests);
    let reading = steps.run();
    this.#enqueued(work);
    for (;;) {
      const ahead = this.#mayRunAhead(requests) ? steps.run() : null;
      if (ahead) this.#enqueued(work);
      this.#accept(requests, await reading);
      if (!ahead) return;
      reading = ahead;
    }
  }

  /** Returns true if a further step of one token can follow the one whose tokens are not read yet. */
  #mayRunAhead(requests: readonly Request[]): boolean {
    // With the token that is on its way, a request may have all that it gets.
    const goesOn = ({ end, generated, limit }: Request): boolean => end === null && generated + 1 < limit;
    return requests.every(goesOn) && this.#scheduler.full && this.#scheduler.extend(requests);
  }

  /** Returns recorded steps that have room for the requests. The latest few are kept. */
  #stepsFor(requests: readonly Request[]): DecodeSteps {
    const rows = requests.length <= 8 ? requests.length : 8 * Math.ceil(requests.length / 8);
    // Requests get further pages, so their number is rounded up.
    const longest = Math.max(...requests.map(({ prompt, limit }) => prompt + limit - 1));
    const columns = 2 ** Math.ceil(Math.log2(Math.ceil(longest / this.#table.pageSize)));
    const key = `${rows}x${columns}`;
    const found = this.#recorded.get(key) ?? new DecodeSteps(this.#model, this.#memory, { rows, columns });
    this.#recorded.delete(key);
    this.#recorded.set(key, found);
    const [oldest] = this.#recorded.keys();
    if (this.#recorded.size > 8) {
      this.#recorded.get(oldest!)!.dispose();
      this.#recorded.delete(oldest!);
    }
    return found;
  }

  #enqueued(work: readonly Work[]): void {
    for (const { request, count } of work) this.#scheduler.enqueued(request, count);
    this.#steps++;
    this.#computed += work.reduce((sum, { count }) => sum + count, 0);
  }

  #accept(requests: readonly Request[], tokens: Int32Array): void {
    for (const [i, request] of requests.entries()) {
      if (request.end !== null) continue;
      request.accept(tokens[i]!);
      this.#scheduler.share(request);
      this.#generated++;
    }
  }
}

/** Returns true if a step computes one token of each request, and recorded steps can do that. */
function decodes(work: readonly Work[]): boolean {
  return work.every(({ request, count }) => count === 1 && request.pending === 1 && DecodeSteps.serves(request));
}

/** Returns how many pages of `pageSize` tokens the memory has. */
function pagesFor(model: CausalDecoder, pageSize: number, kvMemory: number | undefined): number {
  const { layers, kvHeads, contextLength } = model.config;
  const bytes = 2 * layers * kvHeads * model.kvHeadSize * (model.dtype === "f32" ? 4 : 2) * pageSize;
  const least = Math.ceil(contextLength / pageSize);
  if (kvMemory === undefined) return Math.max(least, Math.min(16 * least, Math.floor(2 ** 30 / bytes)));
  checkInteger("Engine", "kvMemory", kvMemory, 1);
  const pages = Math.floor(kvMemory / bytes);
  if (pages < least)
    throw new HeedError(
      "ERR_RANGE",
      `Engine: expected kvMemory of at least ${least * bytes} bytes, which a sequence of ${contextLength} tokens needs, got ${kvMemory}`,
    );
  return pages;
}
