import { activeAdapter } from "../adapters/adapters.js";
import { checkUsable, usableAdapters, useAdapter } from "../adapters/adapter-uses.js";
import { checkBoolean, checkFunction, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { type DrawnToken, generateFrom } from "../generate/generate-text.js";
import type { Generation } from "../generate/generation.js";
import type { TextOptions, TokenSettings } from "../generate/options.js";
import type { FinishReason, Sequence } from "../generate/sequence.js";
import { CausalDecoder } from "../models/causal-decoder.js";
import { checkKvType } from "../nn/kv-pages.js";
import type { SavedTensor } from "../core/saved-tensor.js";
import { answerRules } from "../structured/answer-rules.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { AdapterLease } from "./adapter-lease.js";
import { BusyError } from "./busy-error.js";
import { EngineLoop } from "./engine-loop.js";
import type { EngineMetrics, EngineOptions } from "./engine-options.js";
import type { EngineRequest } from "./engine-request.js";
import { KvRoom, type Room } from "./kv-memory.js";
import { chatTokenizer, promptOf } from "./prompt.js";
import { checkSalt, Request, type RequestSettings } from "./request.js";
import type { StepLimits } from "./scheduler.js";
import { type ScoreRequest, scoreTokens } from "./score-tokens.js";
import type { Scoring, TokenScores } from "./scoring.js";
import { PromptBudget } from "./prompt-budget.js";
import { checkSpeculation, createSpeculation, type Speculation } from "./speculation.js";
import type { RequestSummary } from "./statistics.js";

/**
 * Serves many requests to one model at the same time. Each step computes one batch of tokens of all running requests;
 * requests join and leave at every step. Keys and values lie in pages, which requests with the same beginning share.
 *
 * A request gets exactly the tokens that it would get alone on the same device, with the same seed.
 *
 * @example
 * await using engine = new Engine(gpt, { tokenizer });
 * const texts = ["Call me", "The whale"].map((prompt) => engine.generate({ prompt, maxTokens: 8, seed: 1 }));
 * for (const { text } of await Promise.all(texts)) console.log(text);
 */
export class Engine implements AsyncDisposable {
  #model: CausalDecoder;
  #tokenizer: Tokenizer | null;
  #defaults: TextOptions;
  readonly #maxQueue: number;
  readonly #kvRoom: KvRoom;
  #room: Room;
  readonly #limits: { readonly maxBatchTokens: number | undefined; readonly maxSequences: number };
  readonly #maxStepTime: number;
  readonly #onFinish: ((summary: RequestSummary) => void) | undefined;
  readonly #speculation: Speculation | null;
  readonly #loop: EngineLoop;
  #arrivals = 0;
  #closed = false;
  #replacement: Promise<void> | null = null;
  #probe: Promise<boolean> | null = null;

  /**
   * Creates an engine for a model, which stays the caller's. While the engine is open, the model must not be disposed.
   *
   * @throws ERR_ARGUMENT if the model is not a `GPT` or `Llama`; ERR_RANGE if an option is out of range, or `kvMemory` has
   * no room for a page.
   * @throws ERR_OOM if there is no memory of `kvMemory` bytes.
   */
  constructor(model: CausalDecoder, options: EngineOptions = {}) {
    checkDecoder(model);
    checkObject("Engine", "options", options);
    const { tokenizer = null, defaults = {}, maxBatchTokens, maxSequences = 64, maxQueue = 1024 } = options;
    const { maxStepTime = 250 } = options;
    const { pageSize = 64, kvType = null, speculation = null, onFinish } = options;
    const { context, kvMemory, kvShare, wholeContext } = options;
    if (maxBatchTokens !== undefined) checkInteger("Engine", "maxBatchTokens", maxBatchTokens, 1);
    checkInteger("Engine", "maxSequences", maxSequences, 1);
    checkInteger("Engine", "maxQueue", maxQueue, 0);
    checkNumber("Engine", "maxStepTime", maxStepTime, 0);
    checkInteger("Engine", "pageSize", pageSize, 1);
    checkKvType("Engine", kvType);
    checkObject("Engine", "defaults", defaults);
    if (onFinish !== undefined) checkFunction("Engine: onFinish", onFinish);
    this.#model = model;
    this.#tokenizer = tokenizer;
    this.#defaults = defaults;
    this.#maxQueue = maxQueue;
    this.#limits = { maxBatchTokens, maxSequences };
    this.#maxStepTime = maxStepTime;
    this.#onFinish = onFinish;
    const speculates = checkSpeculation(model, speculation);
    const [draft, shape] = [speculates?.draft ?? null, { pageSize, kvType }];
    this.#kvRoom = new KvRoom(model, draft, shape, { context, kvMemory, kvShare, wholeContext }, maxSequences);
    this.#room = this.#kvRoom.for(model);
    const { pages } = this.#room;
    this.#speculation = speculates && createSpeculation(speculates, pages);
    this.#loop = new EngineLoop(model, pages, this.#limitsFor(model, this.#room), this.#speculation);
    if (this.#kvRoom.reserved) this.#loop.allocate();
  }

  /** Largest number of tokens of a sequence: the model's context, or less if an option or the memory limits it. */
  get contextLength(): number {
    return this.#room.contextLength;
  }

  /** @internal The model that it serves now. */
  get model(): CausalDecoder {
    return this.#model;
  }

  /** @internal Tokens that end a text unless its request names others. */
  get endTokens(): readonly number[] {
    const end = this.#tokenizer?.endOfText ?? null;
    return this.#defaults.stopTokens ?? (end === null ? [] : [end]);
  }

  /** @internal The pages of sequences, and what a sequence that does not fit would need. */
  get room(): Room {
    return this.#room;
  }

  /** Current figures. */
  get metrics(): EngineMetrics {
    const { scheduler, table, statistics, steps, computed, kvBytes, kvResident } = this.#loop;
    const { contextLength, bytes: kvMemory } = this.#room;
    scheduler.removeEnded();
    const { pages, used: pagesUsed, shared: pagesShared } = table;
    const { waiting, running, preemptions, cachedTokens } = scheduler;
    const { generated, tokensPerSecond, timeToFirstToken, timeBetweenTokens } = statistics;
    const { draftedTokens = 0, acceptedTokens = 0 } = this.#speculation ?? {};
    return {
      ...{ waiting, running, contextLength, kvMemory, kvBytes, kvResident, pages, pagesUsed, pagesShared },
      ...{ steps, computedTokens: computed, cachedTokens },
      ...{ generatedTokens: generated, tokensPerSecond, timeToFirstToken, timeBetweenTokens, preemptions },
      ...{ draftedTokens, acceptedTokens },
    };
  }

  /** Names of the adapters that requests can choose: those of the model, but for those that are being unloaded. */
  get adapters(): string[] {
    return usableAdapters(this.#model);
  }

  /** Name of the adapter of requests that choose none, which is the model's active one; null if it has none. */
  get activeAdapter(): string | null {
    return activeAdapter(this.#model);
  }

  /**
   * Continues a prompt or answers a conversation. Await the result for the whole text, or iterate over it for its parts
   * as they come. The request joins the others when the result is first read.
   *
   * @example
   * await using engine = new Engine(gpt, { tokenizer });
   * for await (const { text } of engine.generate({ prompt: "Call me", maxTokens: 20 })) process.stdout.write(text);
   * const { choices } = await engine.generate({ prompt: "Call me", n: 3, logprobs: 5, maxTokens: 20 });
   *
   * @throws ERR_ARGUMENT or ERR_RANGE at the call if an option is invalid, and when the text is read if the prompt is.
   * @throws BusyError (ERR_BUSY), when the text is read, if too many requests wait for `n` more answers, or the engine was
   * closed.
   * @throws the signal's reason, when the text is read, if the signal aborts.
   * @throws ERR_DIVERGED, when the text is read, if the model diverges.
   */
  generate(request: EngineRequest): Generation {
    checkObject("generate", "request", request);
    const { prompt, tokens: _, messages: __, tools = [], variables: ____, rawControlTokens: _____, ...asked } = request;
    const { toolChoice = "auto", parallelToolCalls = true, thinkingBudget = null, ...further } = asked;
    const { chat = request.messages !== undefined, ...rest } = further;
    const { n = 1, logprobs = null, priority = 0, deadline = Infinity, speculation = true, ...others } = rest;
    const { adapter, adapterHeld = false, cacheSalt, ...options } = others;
    checkInteger("generate", "n", n, 1, this.mostAnswers);
    if (logprobs !== null) checkInteger("generate", "logprobs", logprobs, 0, this.#model.config.vocabularySize);
    checkNumber("generate", "priority", priority);
    if (deadline !== Infinity) checkNumber("generate", "deadline", deadline);
    checkBoolean("generate", "speculation", speculation);
    if (adapter !== undefined && adapter !== null && !adapterHeld) checkUsable("generate", this.#model, adapter);
    checkSalt("generate", cacheSalt);
    const own = { priority, deadline, logprobs, speculation, adapter, cacheSalt };
    // What is wrong with other options is found before an adapter is kept.
    let lease: AdapterLease | null = null;
    const source = {
      tokens: (sequence: Sequence, settings: TokenSettings) => this.#tokens(sequence, { ...settings, ...own }, lease),
      ended: () => lease?.end(),
      ...{ n, logprobs: logprobs !== null, contextLength: this.contextLength },
    };
    const chosen = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    // An answer may be as long as the context allows, and another text would seldom end by itself.
    const given: TextOptions = { ...(chat && { maxTokens: this.contextLength }), ...this.#defaults, ...chosen };
    checkBoolean("generate", "parallelToolCalls", parallelToolCalls);
    checkBoolean("generate", "chat", chat);
    const readPrompt = this.#fitting(promptOf(request, this.#tokenizer), given.overflow ?? "error");
    const read = (): ReturnType<typeof readPrompt> => {
      // The answers take memory when the prompt has been read.
      this.checkRoom(n);
      lease?.begin();
      return readPrompt();
    };
    const answering = { format: given.format ?? null, tools, toolChoice, parallelToolCalls, thinkingBudget };
    const answers = chat ? answerRules(chatTokenizer(this.#tokenizer), answering) : null;
    const generation = generateFrom(this.#model, this.#tokenizer, read, given, prompt ?? null, { ...source, answers });
    const { adapter: name = this.activeAdapter } = request;
    if (name !== null) lease = new AdapterLease(this.#model, name, n);
    return generation;
  }

  /**
   * Resolves to the log-probabilities that the model gives to known tokens. The request joins those that generate, and
   * requests with the same beginning compute it once. The scores are the same however many requests run.
   *
   * @example
   * await using engine = new Engine(gpt, { tokenizer });
   * const tokens = tokenizer.encode("Call me Ishmael");
   * const { total } = await engine.score({ tokens, first: 8 }); // log-probability of "Ishmael" after "Call me "
   *
   * @throws ERR_ARGUMENT or ERR_RANGE if the request is invalid.
   * @throws BusyError (ERR_BUSY) if `maxQueue` requests wait already, or the engine was closed.
   * @throws the signal's reason if the signal aborts.
   * @throws ERR_DIVERGED if the model diverges.
   */
  async score(request: ScoreRequest): Promise<TokenScores> {
    return scoreTokens(this.#model, this.#room, request, (scoring, settings) => {
      // The last token is not read, only predicted.
      const tokens = Array.from(scoring.tokens.subarray(0, -1));
      return this.#admit({ tokens, prompt: tokens.length, limit: 1, stream: 0, constraint: null }, settings, scoring);
    });
  }

  /**
   * Overwrites the weights of the model, as `model.loadStateDict` does, between two steps. Requests that run continue
   * with the new weights; the keys and values of their tokens are computed again. The engine also notices if the weights
   * change in another way, for example by training.
   *
   * @throws ERR_FORMAT or ERR_SHAPE if the names or shapes do not fit; nothing is changed then.
   */
  update(state: Readonly<Record<string, SavedTensor>>): void {
    this.#model.loadStateDict(state);
  }

  /**
   * Serves another model from now on. Requests that have begun continue with the old one; the others wait for them to
   * end. When the promise resolves, the old model may be disposed.
   *
   * @param options tokenizer and defaults of the new model; by default those of the old one.
   *
   * @throws ERR_ARGUMENT if the model is not a `GPT` or `Llama`, or has other tokens; ERR_RANGE if its context, or the one
   * that fits into the engine's memory, is shorter. Requests that wait could then not be served.
   * @throws ERR_BUSY if a model is being replaced already, or the engine is closed.
   */
  async replace(model: CausalDecoder, options: Pick<EngineOptions, "tokenizer" | "defaults"> = {}): Promise<void> {
    checkDecoder(model);
    checkObject("replace", "options", options);
    const { tokenizer = this.#tokenizer, defaults = this.#defaults } = options;
    const { vocabularySize } = this.#model.config;
    const { config } = model;
    const [{ contextLength }, room] = [this.#room, this.#kvRoom.for(model)];
    if (config.vocabularySize !== vocabularySize)
      throw new HeedError(
        "ERR_ARGUMENT",
        `replace: expected a model with the ${vocabularySize} tokens of the one before, got ${config.vocabularySize}`,
      );
    if (room.contextLength < contextLength)
      throw new HeedError(
        "ERR_RANGE",
        `replace: expected a context of at least ${contextLength} tokens, got ${room.contextLength}${room.shortage(contextLength)}`,
      );
    if (this.#closed) throw closed("replace");
    if (this.#replacement) throw new HeedError("ERR_BUSY", "replace: expected no replacement to be under way, got one");
    try {
      this.#replacement = this.#loop.replace(model, room.pages, this.#limitsFor(model, room));
      await this.#replacement;
      this.#model = model;
      this.#room = room;
      this.#tokenizer = tokenizer;
      this.#defaults = defaults;
    } finally {
      this.#replacement = null;
    }
  }

  /**
   * Refuses new requests, and resolves when those that it has are done and its memory is free. A replacement that is
   * under way comes to its end before.
   */
  async close(): Promise<void> {
    this.#closed = true;
    // Whoever asked for the replacement is told if it fails.
    await this.#replacement?.catch(() => undefined);
    await this.#loop.idle();
    this.#loop.close();
  }

  /**
   * @internal Resolves to true if the engine can compute: its last step did not fail, or one does not that it tries now.
   */
  async works(): Promise<boolean> {
    const { lost, failures } = this.#loop;
    if (lost || failures === 0) return lost === null;
    this.#probe ??= this.#try().finally(() => {
      this.#probe = null;
    });
    return this.#probe;
  }

  async #try(): Promise<boolean> {
    try {
      const signal = AbortSignal.timeout(5000);
      await this.score({ tokens: [0, 0], priority: Number.MAX_SAFE_INTEGER, adapter: null, signal });
      return true;
    } catch {
      return this.#loop.failures === 0;
    }
  }

  /** @internal Keeps an adapter in the model. Returns a function that lets it go. */
  holdAdapter(name: string): () => void {
    return useAdapter(this.#model, name);
  }

  /** Does the same as `close()`, at the end of the block that declares it with `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal Largest number of answers that can run or wait at the same time. */
  get mostAnswers(): number {
    return this.#limits.maxSequences + this.#maxQueue;
  }

  /**
   * @internal Checks that there is room for the answers to a request, which saves reading its prompt if there is none.
   *
   * @throws BusyError (ERR_BUSY) if too many requests run and wait already, or the engine was closed.
   */
  checkRoom(answers = 1, op = "generate"): void {
    if (this.#closed) throw closed(op);
    const { scheduler, statistics, lost } = this.#loop;
    if (lost) throw lost;
    scheduler.removeEnded();
    const room = Math.max(0, this.mostAnswers - scheduler.running - scheduler.waiting);
    if (answers > room)
      throw new BusyError(this.#maxQueue, statistics.secondsFor(scheduler.waiting / 2), { answers, room });
  }

  /** @internal Refuses new requests, ends those that it has with an error, and frees its memory at once. */
  dispose(): void {
    this.#closed = true;
    const error = new HeedError("ERR_DISPOSED", "generate: expected a model that is not disposed, got a disposed one");
    for (const request of this.#loop.scheduler.all()) request.finish({ error });
    this.#loop.close();
  }

  /** Yields the tokens of a request as they come. */
  async *#tokens(
    sequence: Sequence,
    settings: RequestSettings,
    lease: AdapterLease | null,
  ): AsyncGenerator<DrawnToken> {
    const { signal, onToken } = settings;
    let request: Request;
    try {
      signal?.throwIfAborted();
      if (sequence.constraint?.ended) {
        sequence.finish = "stop";
        return;
      }
      request = this.#admit(sequence, settings);
    } finally {
      lease?.joined();
    }
    const abort = (): void => request.finish({ error: signal!.reason });
    signal?.addEventListener("abort", abort);
    try {
      for (let count = 0; ; count++) {
        for (let more = request.more(count); more; more = request.more(count)) await more;
        if (typeof request.end === "object" && request.end !== null) throw request.end.error;
        if (request.generated <= count) break;
        const token = request.tokens[request.prompt + count]!;
        sequence.cached = request.cachedTokens;
        onToken?.(token, sequence.index);
        const logprobs = request.logprobs.at(count) ?? null;
        request.logprobs.dropBefore(count + 1);
        yield { token, logprobs };
        if (sequence.finish !== null) {
          request.finish(sequence.finish);
          return;
        }
      }
      if (request.end === "diverged") sequence.diverged = true;
      else sequence.finish = request.end as FinishReason;
    } finally {
      signal?.removeEventListener("abort", abort);
      request.finish("cancelled");
      lease?.end();
      const summary = this.#loop.statistics.ended(request);
      this.#onFinish?.(summary);
    }
  }

  /** Keeps the adapter of a request in the model. Returns a function that lets it go. */
  #holdAdapter({ adapter = activeAdapter(this.#model) }: RequestSettings): () => void {
    return adapter === null ? () => undefined : useAdapter(this.#model, adapter);
  }

  #admit(
    sequence: Pick<Sequence, "tokens" | "prompt" | "limit" | "stream" | "constraint">,
    settings: RequestSettings,
    scoring: Scoring | null = null,
  ): Request {
    this.checkRoom(1, scoring ? "score" : "generate");
    const request = new Request(sequence, settings, this.#arrivals++, scoring);
    // The adapter is kept until the tokens are computed, and not until a client has read them.
    request.onEnd = this.#holdAdapter(settings);
    try {
      this.#loop.add(request);
    } catch (error) {
      request.finish({ error });
      throw error;
    }
    return request;
  }

  #limitsFor({ config }: CausalDecoder, { contextLength, pages }: Room): StepLimits {
    const { maxBatchTokens = usualBatchTokens(config) } = this.#limits;
    const promptBudget = new PromptBudget(this.#maxStepTime);
    // Each of them has a page at least.
    const maxSequences = Math.min(this.#limits.maxSequences, pages.most);
    return { maxBatchTokens, maxSequences, contextLength, promptBudget };
  }

  /** Returns a function that returns the tokens of a prompt, and throws if they can never fit into the memory. */
  #fitting(
    read: () => Int32Array | Promise<Int32Array>,
    overflow: NonNullable<TextOptions["overflow"]>,
  ): () => Promise<Int32Array> {
    return async () => {
      const tokens = await read();
      const advice = '; overflow: "slide" drops the start';
      if (overflow === "error" && this.#room.limited) this.#room.check("generate", "prompt", tokens.length, advice);
      return tokens;
    };
  }
}

function checkDecoder(model: unknown): asserts model is CausalDecoder {
  if (!(model instanceof CausalDecoder))
    throw new HeedError("ERR_ARGUMENT", `Engine: expected a decoder, such as a GPT or Llama, got ${describe(model)}`);
}

/** Returns how many tokens a step computes, if the caller does not say it: enough to outweigh what a step itself costs. */
function usualBatchTokens({ layers, width }: CausalDecoder["config"]): number {
  const weights = 12 * layers * width ** 2;
  return Math.min(4096, 512 * Math.max(1, Math.floor(1e6 / weights)));
}

function closed(op: string): HeedError {
  return new HeedError("ERR_BUSY", `${op}: expected an engine that is open, got a closed one`);
}
