import type { Drawn } from "../generate/draws.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import type { KvPages } from "../nn/kv-pages.js";
import { KvMemory, type PageCounts } from "./kv-memory.js";
import { PageTable } from "./page-table.js";
import { RecordedSteps } from "./recorded-steps.js";
import type { Request } from "./request.js";
import { RequestAdapters } from "./request-adapters.js";
import { lengthOf, Scheduler, type StepLimits, type Work } from "./scheduler.js";
import { acceptTokens, type Speculation } from "./speculation.js";
import { Statistics } from "./statistics.js";
import { noScores, runStep, type StepOutput } from "./step.js";
import { asHeedError, HeedError } from "../util/errors.js";
import { asFormatError } from "../structured/work.js";
import { inTurns, pauseIfLong } from "../util/turns.js";
import { tokensToVerify } from "./verification.js";
import { WeightsWatch } from "./weights-watch.js";

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
  #adapters: RequestAdapters;
  readonly #recorded = new RecordedSteps();
  readonly #speculation: Speculation | null;
  /** Error of an engine that cannot go on; null for all others. */
  lost: HeedError | null = null;
  /** Number of failures since the last step that was computed. */
  failures = 0;
  #running: Promise<void> | null = null;
  #closed = false;

  constructor(model: CausalDecoder, pages: PageCounts, limits: StepLimits, speculation: Speculation | null) {
    this.#model = model;
    this.#memory = new KvMemory(model, pages, this.#recorded);
    this.#weights = new WeightsWatch(model);
    this.#adapters = new RequestAdapters(model, this.#weights);
    this.table = new PageTable(pages.first, pages.pageSize, pages.most);
    this.scheduler = new Scheduler(this.table, limits);
    this.#speculation = speculation;
  }

  /** Makes the memory for the pages that there are. Without this call, the first request does it. */
  allocate(): void {
    this.#memory.pages(this.table.pages + 1);
  }

  /** Bytes of the memory for keys and values that there is now. */
  get kvBytes(): number {
    return this.#memory.bytes + (this.#speculation?.kvSizes.bytes ?? 0);
  }

  /** Bytes of it that the system has given. */
  get kvResident(): number {
    return this.#memory.residentBytes(this.table.highest) + (this.#speculation?.kvSizes.resident ?? 0);
  }

  /**
   * Adds a request. The steps begin in the next microtask.
   *
   * @throws the error of an engine that is lost.
   */
  add(request: Request): void {
    if (this.lost) throw this.lost;
    this.#adapters.assign(request);
    this.scheduler.add(request);
    this.#running ??= this.#run();
  }

  /** Resolves when there is nothing to do. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  /**
   * Continues all requests that have begun, and then serves another model. Until then, the others wait. If it fails, the
   * engine goes on with the model that it has.
   *
   * @throws ERR_DISPOSED if the memory is freed for good meanwhile.
   */
  async replace(model: CausalDecoder, pages: PageCounts, limits: StepLimits): Promise<void> {
    this.scheduler.paused = true;
    try {
      await this.#running;
      if (this.#closed)
        throw new HeedError("ERR_DISPOSED", "replace: expected an engine that stays, got one that was disposed");
      // What can fail comes before the first change.
      const weights = new WeightsWatch(model);
      const table = new PageTable(pages.first, pages.pageSize, pages.most);
      this.free();
      this.#giveBack();
      this.#model = model;
      this.#memory = new KvMemory(model, pages, this.#recorded);
      this.#weights = weights;
      this.#adapters = new RequestAdapters(model, weights);
      for (const request of this.scheduler.all()) this.#adapters.assign(request);
      this.table = table;
      this.scheduler.use(table, limits);
    } finally {
      this.scheduler.paused = false;
      if (!this.#closed) this.#running ??= this.#run();
    }
  }

  /** Frees all memory for good. */
  close(): void {
    this.#closed = true;
    this.free();
    this.#speculation?.dispose();
    this.#giveBack();
  }

  /** Lets the system have what was freed. */
  #giveBack(): void {
    this.#model.device.emptyCache().catch(() => undefined);
  }

  /** Frees the memory. If there are requests, their next step makes it again. */
  free(): void {
    this.#recorded.dispose();
    this.#memory.dispose();
    this.#adapters.clear();
  }

  /** Runs steps while there are requests. The promise never rejects: each failure ends the requests that it concerns. */
  async #run(): Promise<void> {
    // Requests that are made at the same time join the first step together.
    await Promise.resolve();
    while (this.lost === null) {
      await pauseIfLong();
      let work: readonly Work[] | null = null;
      try {
        work = this.#next();
        if (work.length === 0) break;
        await this.#serve(work);
      } catch (error) {
        this.#recover(work?.map(({ request }) => request) ?? this.scheduler.all(), error);
      }
    }
    // Nothing is awaited since there was no work, so no request can have come in between.
    this.#running = null;
  }

  /** Ends the requests that have failed, and goes on with the others from their beginning. If it cannot, the engine is lost. */
  #recover(failed: readonly Request[], error: unknown): void {
    this.failures++;
    for (const request of failed) request.finish({ error: asHeedError("generate", error) });
    try {
      this.#restart();
    } catch (cause) {
      const { message } = asHeedError("generate", cause);
      this.lost = new HeedError(
        "ERR_INTERNAL",
        `generate: expected an engine that works, got one that has failed and cannot go on; create another one (${message})`,
        { cause },
      );
      for (const request of this.scheduler.all()) request.finish({ error: this.lost });
    }
  }

  /** Runs a step, or several if all of them compute one token of the same requests. */
  async #serve(scheduled: readonly Work[]): Promise<void> {
    const { scheduler } = this;
    this.#speculation?.begin();
    const work = (await this.#speculation?.draft(scheduled, scheduler)) ?? scheduled;
    // While drafts were computed, requests may have ended, and the weights may have changed.
    if (work.length === 0 || this.#changed) return;
    const recorded = work.length === scheduler.running && scheduler.full && decodes(work);
    await (recorded ? this.#decode(work) : this.#step(work));
  }

  /** Returns the work of the next step, for which there is memory. */
  #next(): Work[] {
    if (this.#changed) this.#restart();
    for (;;) {
      const work = this.scheduler.next();
      if (work.length === 0 || this.#grow()) return work;
    }
  }

  /** True if the weights have changed with which keys and values were computed. */
  get #changed(): boolean {
    this.#adapters.prune(() => this.scheduler.all());
    return this.#weights.changed;
  }

  /**
   * Makes memory for all pages. If there is too little, the table keeps the pages that there were, all requests wait,
   * and the result is false.
   */
  #grow(): boolean {
    try {
      this.#memory.pages(this.table.pages + 1);
      return true;
    } catch (error) {
      this.scheduler.restart();
      if (this.#memory.count > 0) this.table.limit(this.#memory.count - 1);
      else {
        this.failures++;
        for (const request of this.scheduler.all()) request.finish({ error: asHeedError("generate", error) });
      }
      return false;
    }
  }

  /**
   * Computes everything again, after a step has failed or the weights have changed. A failure stays with the tensors
   * that the step wrote, so they are replaced.
   */
  #restart(): void {
    this.scheduler.restart();
    for (const { scoring } of this.scheduler.all()) scoring?.restart();
    this.table.clear();
    this.free();
    this.#weights.note();
    for (const request of this.scheduler.all()) this.#adapters.assign(request);
  }

  async #step(work: readonly Work[]): Promise<void> {
    const start = performance.now();
    const { ended, drawn, scored, losses } =
      this.#verify(work) ?? runStep(this.#model, this.#pages, work, this.#adapters);
    this.#enqueued(work);
    const [tokens, scores] = await Promise.all([drawn, losses]);
    this.scheduler.measured(work, performance.now() - start);
    await this.#accept(ended, tokens);
    for (const [i, request] of scored.entries()) request.acceptScore(scores, i);
    this.#speculation?.finished(work);
  }

  /** Enqueues a recorded step, if the work is one that verifies drafts and that may be recorded. */
  #verify(work: readonly Work[]): StepOutput | null {
    const tokens = tokensToVerify(work, this.#pages.pageSize);
    if (tokens === null || !this.scheduler.reserve(work, tokens)) return null;
    // Requests with the same adapter stand side by side.
    const ended = [...work].sort((a, b) => a.request.adapterId - b.request.adapterId);
    const requests = ended.map(({ request }) => request);
    const steps = this.#recorded.for(this.#model, this.#pages, requests, this.#adapters, tokens);
    return { ended, drawn: steps.verify(ended), ...noScores };
  }

  /**
   * Runs steps of one token for the same requests, until one of them ends or another one can join. The device runs one
   * step ahead of the host: a step is enqueued before the tokens of the one before it are read. If one of those tokens
   * ends a request, the step computed one token in vain. If a text has to have a form, the step's token is drawn after
   * the one before it has been read, since that decides which tokens are allowed.
   */
  async #decode(unsorted: readonly Work[]): Promise<void> {
    // Requests with the same adapter stand side by side.
    const work = unsorted.toSorted((a, b) => a.request.adapterId - b.request.adapterId);
    const requests = work.map(({ request }) => request);
    const steps = this.#recorded.for(this.#model, this.#pages, requests, this.#adapters);
    steps.begin(requests);
    let reading = steps.run()();
    this.#enqueued(work);
    for (;;) {
      // A fast device has computed the tokens when they are read, so that this loop alone never ends the turn.
      await pauseIfLong();
      const ahead = this.#mayRunAhead(work) ? steps.run() : null;
      if (ahead) this.#enqueued(work);
      await this.#accept(work, await reading);
      this.#speculation?.finished(work);
      if (!ahead) return;
      reading = ahead();
    }
  }

  /** Returns true if a further step of one token can follow the one whose tokens are not read yet. */
  #mayRunAhead(work: readonly Work[]): boolean {
    const { contextLength } = this.scheduler;
    const now = Date.now();
    // With the token that is on its way, a request may have all that it gets, or fill the context.
    const goesOn = ({ end, generated, limit, computed, settings }: Request): boolean =>
      end === null && generated + 1 < limit && computed < contextLength && now <= settings.deadline;
    const { scheduler } = this;
    const requests = work.map(({ request }) => request);
    if (!requests.every(goesOn) || !scheduler.full || this.#changed || !scheduler.extend(requests)) return false;
    return !this.#speculation?.wants(work, scheduler);
  }

  get #pages(): KvPages {
    return this.#memory.pages(this.table.pages + 1);
  }

  #enqueued(work: readonly Work[]): void {
    // What is computed of a work with drafts is known when its drawn tokens are read.
    for (const { request, count, drafts } of work) if (drafts.length === 0) this.scheduler.enqueued(request, count);
    this.steps++;
    this.computed += work.reduce((sum, one) => sum + lengthOf(one), 0);
  }

  /**
   * Gives requests their drawn tokens: each work has one, and one more for each of its drafts. Resolves when it is known
   * how texts that have to have a form may go on.
   */
  async #accept(ended: readonly Work[], drawn: Drawn): Promise<void> {
    this.failures = 0;
    let row = 0;
    const now = performance.now();
    for (const work of ended) {
      const { request, drafts } = work;
      if (request.end === null) {
        const computed = acceptTokens(work, drawn, row, this.statistics, now);
        if (drafts.length > 0) this.scheduler.enqueued(request, computed);
        else this.scheduler.share(request);
        this.#speculation?.verified(work, Math.max(0, computed - 1));
      }
      row += drafts.length + 1;
    }
    // Most steps need not wait.
    if (ended.some(({ request }) => request.constraint?.ready === false)) await findAllowed(ended);
  }
}

/**
 * Finds the tokens with which texts that have to have a form may go on. It takes turns with everything else, since a form
 * may be complicated, and a form with which it fails ends its own request.
 */
async function findAllowed(work: readonly Work[]): Promise<void> {
  for (const { request } of work) {
    const { constraint } = request;
    if (!constraint) continue;
    try {
      if (request.end === null) await inTurns(constraint.findAllowed());
    } catch (error) {
      request.finish({ error: asHeedError("generate", asFormatError(error)) });
    }
    if (request.end !== null) constraint.leave();
  }
}

/** Returns true if a step computes one token of each request. */
function decodes(work: readonly Work[]): boolean {
  return work.every((one) => lengthOf(one) === 1 && one.request.pending === 1 && one.request.scoring === null);
}
