// Decides which tokens of which requests a step computes. Every step serves running requests first: one token for those
// that generate, then a piece of the prompt for the others in the order of priority and arrival, as far as the budget of
// tokens goes. Then waiting requests join. If pages run out, the last running request gives its pages back and
// waits; what it had is computed again later, unless the prefix cache still has it.
import { HeedError } from "../errors.js";
import type { PageTable } from "./page-table.js";
import { before, type Request } from "./request.js";

/** Tokens of a request that a step computes: the `count` tokens after its computed ones. */
export interface Work {
  readonly request: Request;
  readonly count: number;
}

/** Limits of a step. */
export interface StepLimits {
  /** Largest number of tokens of a step. */
  readonly maxBatchTokens: number;
  /** Largest number of requests that run at the same time. */
  readonly maxSequences: number;
  /** Largest number of tokens that the model sees. */
  readonly contextLength: number;
}

export class Scheduler {
  #table: PageTable;
  #limits: StepLimits;
  /** True if there were no pages for a waiting request. */
  #blocked = false;
  #waiting: Request[] = [];
  #running: Request[] = [];
  /** Number of times that a running request had to give its pages back. */
  preemptions = 0;
  /** Number of tokens that did not have to be computed because the prefix cache had them. */
  cachedTokens = 0;
  /** True if requests that have not begun wait. */
  paused = false;

  constructor(table: PageTable, limits: StepLimits) {
    this.#table = table;
    this.#limits = limits;
  }

  /** Goes on with other pages and limits. No request may have any pages. */
  use(table: PageTable, limits: StepLimits): void {
    this.#table = table;
    this.#limits = limits;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get running(): number {
    return this.#running.length;
  }

  /** Adds a request to those that wait. */
  add(request: Request): void {
    this.#waiting.push(request);
    this.#waiting.sort(before);
  }

  /** Returns all requests, running and waiting. */
  all(): Request[] {
    return [...this.#running, ...this.#waiting];
  }

  /** Ends the requests whose deadline has passed, removes all that have ended, and frees their pages. */
  removeEnded(): void {
    const now = Date.now();
    const ended = (request: Request): boolean => {
      if (now > request.settings.deadline) request.finish("deadline");
      return request.end !== null;
    };
    if (this.#running.some(ended)) {
      for (const request of this.#running) if (request.end !== null) this.#free(request);
      this.#running = this.#running.filter(({ end }) => end === null);
    }
    if (this.#waiting.some(ended)) this.#waiting = this.#waiting.filter(({ end }) => end === null);
  }

  /** Takes the pages of all requests, which wait and are then computed from the beginning. */
  restart(): void {
    this.removeEnded();
    while (this.#running.length > 0) {
      const request = this.#running.pop()!;
      this.#free(request);
      this.add(request);
    }
  }

  /** Returns the work of the next step; there is none only if there are no requests that may begin. */
  next(): Work[] {
    this.removeEnded();
    this.#blocked = false;
    const work: Work[] = [];
    const budget = this.#continue(work);
    this.#begin(work, budget);
    const first = this.#waiting.find((request) => this.#mayBegin(request));
    if (work.length > 0 || !first) return work;
    // No request has any pages, and yet there are not enough for this one.
    const { pages, pageSize } = this.#table;
    first.finish({
      error: new HeedError(
        "ERR_OOM",
        `generate: expected memory for the keys and values of ${first.length} tokens, got no more than ${pages} pages of ${pageSize}`,
      ),
    });
    return this.next();
  }

  /**
   * Adds the work of running requests, and returns the number of tokens that are left. Those that generate come first,
   * so that no prompt holds them up.
   */
  #continue(work: Work[]): number {
    let budget = this.#limits.maxBatchTokens;
    for (const request of this.#running) this.#fit(request);
    const generates = ({ pending }: Request): boolean => pending === 1;
    const prompts = this.#running.filter((request) => !generates(request));
    const preempted = new Set<Request>();
    for (const request of [...this.#running.filter(generates), ...prompts]) {
      if (budget === 0) break;
      const count = Math.min(request.pending, budget);
      while (!preempted.has(request) && !this.#find(request, count)) {
        const last = this.#preempt();
        preempted.add(last);
        const at = work.findIndex((one) => one.request === last);
        if (at >= 0) budget += work.splice(at, 1)[0]!.count;
      }
      if (preempted.has(request)) continue;
      work.push({ request, count });
      budget -= count;
    }
    return budget;
  }

  /** Lets waiting requests join, with at most `budget` tokens. */
  #begin(work: Work[], budget: number): void {
    for (const request of [...this.#waiting]) {
      if (budget === 0 || this.#running.length === this.#limits.maxSequences) return;
      if (!this.#mayBegin(request)) continue;
      this.#fit(request);
      this.#reuse(request);
      const count = Math.min(request.pending, budget);
      const joins = !this.#isComputed(request, work);
      if (!joins || !this.#find(request, count)) {
        this.#free(request);
        this.#blocked = joins;
        if (joins) return;
        continue;
      }
      this.#start(request);
      work.push({ request, count });
      budget -= count;
    }
  }

  /** Returns true if this step computes pages that a request can share in the next one. */
  #isComputed(request: Request, work: readonly Work[]): boolean {
    const { pageSize } = this.#table;
    const tokens = request.visible;
    return work.some(({ request: { computed, visible }, count }) => {
      const most = Math.min(tokens.length - 1, computed + count);
      const further = (request.pages.length + 1) * pageSize;
      return further <= most && tokens.slice(0, further).every((token, i) => token === visible[i]);
    });
  }

  /** Moves a request from those that wait to those that run. */
  #start(request: Request): void {
    this.#waiting.splice(this.#waiting.indexOf(request), 1);
    this.#running.push(request);
    this.#running.sort(before);
    this.cachedTokens += request.computed;
    if (!Number.isNaN(request.times.start)) return;
    request.times.start = performance.now();
    request.cachedTokens = request.computed;
  }

  #mayBegin({ generated }: Request): boolean {
    return !this.paused || generated > 0;
  }

  /** Notes that a step that computes `count` tokens of a request has been enqueued. */
  enqueued(request: Request, count: number): void {
    request.computed += count;
    this.share(request);
  }

  /** Lets others share the pages of a request that are full, as far as their tokens are known. */
  share(request: Request): void {
    const { pageSize } = this.#table;
    const known = Math.min(request.computed, request.length);
    for (; (request.registered + 1) * pageSize <= known; request.registered++)
      this.#table.register(request.visible, request.pages, request.registered);
  }

  /** True if no waiting request can join a step before a running one ends. */
  get full(): boolean {
    const mayJoin = !this.#blocked && this.#running.length < this.#limits.maxSequences;
    return !mayJoin || !this.#waiting.some((request) => this.#mayBegin(request));
  }

  /** Gives every request pages for one more token, and returns true, or returns false if there are not enough. */
  extend(requests: readonly Request[]): boolean {
    return requests.every((request) => this.#reserve(request, 1));
  }

  /** Does the same as `#reserve`, with further pages if there may be some. */
  #find(request: Request, count: number): boolean {
    // Cached pages are given up only when there can be no further ones.
    while (this.#table.full && this.#missing(request, count) > 0 && this.#table.grow());
    while (!this.#reserve(request, count)) if (!this.#table.grow()) return false;
    return true;
  }

  #missing({ computed, pages }: Request, count: number): number {
    return Math.ceil((computed + count) / this.#table.pageSize) - pages.length;
  }

  /** Gives a request pages for `count` more tokens. Returns false if there are not enough; it then has some of them. */
  #reserve(request: Request, count: number): boolean {
    while (this.#missing(request, count) > 0) {
      const page = this.#table.allocate();
      if (page === null) return false;
      request.pages.push(page);
    }
    return true;
  }

  /** Takes over the pages that the prefix cache has for a request. At least one token stays to be computed. */
  #reuse(request: Request): void {
    const { pageSize } = this.#table;
    request.pages = this.#table.find(request.visible, Math.floor((request.length - 1) / pageSize));
    request.computed = request.pages.length * pageSize;
    request.registered = request.pages.length;
  }

  /** Lets the last running request wait again, and returns it. */
  #preempt(): Request {
    const request = this.#running.pop()!;
    this.#free(request);
    this.add(request);
    this.preemptions++;
    return request;
  }

  /** Lets a request that has outgrown the context forget the first half of it. */
  #fit(request: Request): void {
    if (request.length <= this.#limits.contextLength) return;
    this.#free(request);
    request.forget(this.#limits.contextLength);
  }

  #free(request: Request): void {
    // The last pages are used again first, so that beginnings, which others may share, stay longest.
    for (const page of request.pages.toReversed()) this.#table.release(page);
    request.pages = [];
    request.computed = 0;
    request.registered = 0;
  }
}
