import type { Drawn } from "../generate/draws.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import type { KvPages } from "../nn/kv-pages.js";
import { DecodeSteps, stepShape } from "./decode-steps.js";
import { KvMemory } from "./kv-memory.js";
import { PageTable } from "./page-table.js";
import type { Request } from "./request.js";
import { Scheduler, type StepLimits, type Work } from "./scheduler.js";
import { Statistics } from "./statistics.js";
import { runStep } from "./step.js";
import { WeightsWatch } from "./weights-watch.js";

/** Numbers of pages of an engine's memory. */
export interface PageCounts {
  readonly pageSize: number;
  /** Number of pages at the beginning. */
  readonly first: number;
  /** Largest number of pages. */
  readonly most: number;
}

/** Runs steps of one model for as long as there are requests. */
export class EngineLoop {
  table: PageTable;
  readonly scheduler: Scheduler;
  /** Number of steps that were enqueued. */
  steps = 0;
  /** Number of tokens that they computed. */
  computed = 0;
  readonly statistics = new Statistics();
  #model: CausalDecoder;
  #memory: KvMemory;
  #weights: WeightsWatch;
  /** Recorded steps of one token, by what they have room for; the latest few. */
  readonly #recorded = new Map<string, DecodeSteps>();
  #running: Promise<void> | null = null;

  constructor(model: CausalDecoder, pages: PageCounts, limits: StepLimits) {
    this.#model = model;
    this.#memory = new KvMemory(model, pages.pageSize);
    this.#weights = new WeightsWatch(model);
    this.table = new PageTable(pages.first, pages.pageSize, pages.most);
    this.scheduler = new Scheduler(this.table, limits);
  }

  /** Makes the memory for the pages that there are. Without this call, the first request does it. */
  allocate(): void {
    this.#memory.pages(this.table.pages + 1);
  }

  /** Adds a request. The steps begin in the next microtask. */
  add(request: Request): void {
    this.scheduler.add(request);
    this.#running ??= this.#run();
  }

  /** Resolves when there is nothing to do. */
  async idle(): Promise<void> {
    await this.#running;
  }

  /** Continues all requests that have begun, and then serves another model. Until then, the others wait. */
  async replace(model: CausalDecoder, pages: PageCounts, limits: StepLimits): Promise<void> {
    this.scheduler.paused = true;
    await this.#running;
    this.free();
    this.#model = model;
    this.#memory = new KvMemory(model, pages.pageSize);
    this.#weights = new WeightsWatch(model);
    this.table = new PageTable(pages.first, pages.pageSize, pages.most);
    this.scheduler.use(this.table, limits);
    this.scheduler.paused = false;
    this.#running ??= this.#run();
  }

  /** Frees the memory. If there are requests, their next step makes it again. */
  free(): void {
    this.#forgetRecorded();
    this.#memory.dispose();
  }

  #forgetRecorded(): void {
    for (const steps of this.#recorded.values()) steps.dispose();
    this.#recorded.clear();
  }

  async #run(): Promise<void> {
    // Requests that are made at the same time join the first step together.
    await Promise.resolve();
    for (let work = this.#next(); work.length > 0; work = this.#next()) {
      try {
        const recorded = work.length === this.scheduler.running && this.scheduler.full && decodes(work);
        await (recorded ? this.#decode(work) : this.#step(work));
      } catch (error) {
        for (const { request } of work) request.finish({ error });
        this.#restart();
      }
    }
    // Nothing is awaited since there was no work, so no request can have come in between.
    this.#running = null;
  }

  /** Returns the work of the next step, for which there is memory. */
  #next(): Work[] {
    if (this.#weights.changed) this.#restart();
    for (;;) {
      const work = this.scheduler.next();
      if (work.length === 0 || this.#grow()) return work;
    }
  }

  /**
   * Makes memory for all pages. If there is too little, the table keeps the pages that there were, all requests wait,
   * and the result is false.
   */
  #grow(): boolean {
    const before = this.#memory.count;
    try {
      this.#memory.pages(this.table.pages + 1);
      if (this.#memory.count !== before) this.#forgetRecorded();
      return true;
    } catch (error) {
      this.scheduler.restart();
      if (this.#memory.count > 0) this.table.limit(this.#memory.count - 1);
      else for (const request of this.scheduler.all()) request.finish({ error });
      return false;
    }
  }

  /**
   * Computes everything again, after a step has failed or the weights have changed. A failure stays with the tensors
   * that the step wrote, so they are replaced.
   */
  #restart(): void {
    this.scheduler.restart();
    this.table.clear();
    this.free();
    this.#weights.note();
  }

  async #step(work: readonly Work[]): Promise<void> {
    const { requests, drawn } = runStep(this.#model, this.#pages, work);
    this.#enqueued(work);
    this.#accept(requests, await drawn);
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
    const { contextLength } = this.#model.config;
    const now = Date.now();
    // With the token that is on its way, a request may have all that it gets, or fill the context.
    const goesOn = ({ end, generated, limit, computed, settings }: Request): boolean =>
      end === null && generated + 1 < limit && computed < contextLength && now <= settings.deadline;
    const { scheduler } = this;
    return requests.every(goesOn) && scheduler.full && !this.#weights.changed && scheduler.extend(requests);
  }

  get #pages(): KvPages {
    return this.#memory.pages(this.table.pages + 1);
  }

  /** Returns recorded steps that have room for the requests. */
  #stepsFor(requests: readonly Request[]): DecodeSteps {
    const shape = stepShape(requests, this.table.pageSize, this.#model.config.contextLength);
    const key = JSON.stringify(shape);
    const found = this.#recorded.get(key) ?? new DecodeSteps(this.#model, this.#pages, shape);
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
    for (const { request, count } of work) this.scheduler.enqueued(request, count);
    this.steps++;
    this.computed += work.reduce((sum, { count }) => sum + count, 0);
  }

  #accept(requests: readonly Request[], drawn: Drawn): void {
    for (const [row, request] of requests.entries()) {
      if (request.end !== null) continue;
      const { lastToken } = request.times;
      request.accept(drawn, row);
      this.scheduler.share(request);
      this.statistics.token(request, lastToken);
    }
  }
}

/** Returns true if a step computes one token of each request. */
function decodes(work: readonly Work[]): boolean {
  return work.every(({ request, count }) => count === 1 && request.pending === 1);
}
