// Decides which tokens of which requests a step computes. Every step serves running requests first: one token for those
// that generate, then a piece of the prompt for the others in the order of priority and arrival, as far as the budget of
// tokens goes. Then waiting requests join. If pages run out, the last running request gives its pages back and
// waits; what it had is computed again later, unless the prefix cache still has it.
import { HeedError } from "../util/errors.js";
import type { PageTable } from "./page-table.js";
import { freePages, reservePages, reusePages, sharePages } from "./paged-sequence.js";
import type { PromptBudget } from "./prompt-budget.js";
import { before, type Request } from "./request.js";

/** Tokens of a request that a step computes: the `count` tokens after its computed ones, and drafts after its last. */
export interface Work {
  readonly request: Request;
  readonly count: number;
  /** Tokens that may follow the request's last one; none unless that is its only token in the step. */
  readonly drafts: readonly number[];
}

/** Returns the number of tokens of a work. */
export function lengthOf({ count, drafts }: Work): number {
  return count + drafts.length;
}

/** Limits of a step. */
export interface StepLimits {
  /** Largest number of tokens of a step. */
  readonly maxBatchTokens: number;
  /** Largest number of requests that run at the same time. */
  readonly maxSequences: number;
  /** Largest number of tokens that the model sees. */
  readonly contextLength: number;
  /** Says how many tokens a step may have if requests generate. */
  readonly promptBudget: PromptBudget;
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

  /** Largest number of tokens that the model sees. */
  get contextLength(): number {
    return this.#limits.contextLength;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get running(): number {
    return this.#running.length;
  }

  /** Adds a request to those that wait. */
  add(request: Request): void {
    // Most come last.
    let at = this.#waiting.length;
    while (at > 0 && before(request, this.#waiting[at - 1]!) < 0) at--;
    this.#waiting.splice(at, 0, request);
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
    const generating = this.#running.filter(generates);
    budget = Math.min(budget, this.#limits.promptBudget.beside(generating.length));
    const preempted = new Set<Request>();
    for (const request of [...generating, ...prompts]) {
      if (budget === 0) break;
      const count = Math.min(request.pending, budget);
      while (!preempted.has(request) && !this.#find(request, count)) {
        const last = this.#preempt();
        preempted.add(last);
        const at = work.findIndex((one) => one.request === last);
        if (at >= 0) budget += work.splice(at, 1)[0]!.count;
      }
      if (preempted.has(request)) continue;
      work.push({ request, count, drafts: [] });
      budget -= count;
    }
    return budget;
  }

  /** Lets waiting requests join, with at most `budget` tokens. */
  #begin(work: Work[], budget: number): void {
    // Of the answers to one prompt, all wait if one does: thousands of them may.
    const computed = new Set<readonly number[]>();
    for (const request of [...this.#waiting]) {
      if (budget === 0 || this.#running.length === this.#limits.maxSequences) return;
      if (!this.#mayBegin(request) || computed.has(request.tokens)) continue;
      this.#fit(request);
      reusePages(this.#table, request);
      const count = Math.min(request.pending, budget);
      const joins = !this.#isComputed(request, work);
      if (!joins || !this.#find(request, count)) {
        this.#free(request);
        this.#blocked = joins;
        if (joins) return;
        computed.add(request.tokens);
        continue;
      }
      this.#start(request);
      work.push({ request, count, drafts: [] });
      budget -= count;
    }
  }

  /** Returns true if this step computes pages that a request can share in the next one. */
  #isComputed(request: Request, work: readonly Work[]): boolean {
    const { pageSize } = this.#table;
    const tokens = request.visible;
    return work.some(({ request: { computed, visible, root }, count }) => {
      if (root !== request.root) return false;
      const most = Math.min(request.reusable, computed + count);
      const further = (request.pages.length + 1) * pageSize;
      return further <= most && beginAlike(tokens, visible, further);
    });
  }

  /** Moves a request from those that wait to those that run. */
  #start(request: Request): void {
    request.begin();
    this.#waiting.splice(this.#waiting.indexOf(request), 1);
    this.#running.push(request);
    this.#running.sort(before);
    this.cachedTokens += request.computed;
    if (!Number.isNaN(request.times.start)) return;
    request.times.start = performance.now();
    request.cachedTokens = request.computed;
  }

  #mayBegin({ begun }: Request): boolean {
    return !this.paused || begun;
  }

  /** Notes that a step that computes `count` tokens of a request has been enqueued. */
  enqueued(request: Request, count: number): void {
    request.computed += count;
    this.share(request);
  }

  /** Takes the time in milliseconds that a step took. */
  measured(work: readonly Work[], milliseconds: number): void {
    this.#limits.promptBudget.add(
      work.reduce((sum, one) => sum + lengthOf(one), 0),
      milliseconds,
    );
  }

  /** Lets others share the pages of a request that are full, as far as their tokens are known. */
  share(request: Request): void {
    sharePages(this.#table, request);
  }

  /** True if no waiting request can join a step before a running one ends. */
  get full(): boolean {
    const mayJoin = !this.#blocked && this.#running.length < this.#limits.maxSequences;
    return !mayJoin || !this.#waiting.some((request) => this.#mayBegin(request));
  }

  /** Gives every request pages for one more token, and returns true, or returns false if there are not enough. */
  extend(requests: readonly Request[]): boolean {
    return requests.every((request) => reservePages(this.#table, request, 1));
  }

  /**
   * Gives every request pages for `tokens` tokens after its computed ones, and returns true; or returns false if there
   * are not enough pages or the model does not see so many tokens. Nobody loses a page for them.
   */
  reserve(work: readonly Work[], tokens: number): boolean {
    const fits = ({ request }: Work): boolean =>
      request.computed + tokens <= this.#limits.contextLength && reservePages(this.#table, request, tokens);
    return work.every(fits);
  }

  /** Returns the number of tokens that a step can have beside this work. */
  spare(work: readonly Work[]): number {
    return work.reduce((rest, { count }) => rest - count, this.#limits.maxBatchTokens);
  }

  /** Returns how many drafts a request can have: it gets one more token after them, and the model sees them all. */
  mostDrafts({ limit, generated, length }: Request): number {
    return Math.min(limit - generated - 1, this.#limits.contextLength - length);
  }

  /** Makes room for `count` drafts after the tokens of a request, and returns for how many. Nobody loses a page for them. */
  roomForDrafts(request: Request, count: number): number {
    reservePages(this.#table, request, request.pending + count);
    return Math.min(count, request.pages.length * this.#table.pageSize - request.length);
  }

  /** Gives a request pages for `count` more tokens, with further pages if there may be some. */
  #find(request: Request, count: number): boolean {
    // Cached pages are used again first.
    while (!reservePages(this.#table, request, count)) if (!this.#table.grow()) return false;
    return true;
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
    freePages(this.#table, request);
  }
}

/** Returns true if the first `count` tokens of two sequences are the same. */
function beginAlike(a: readonly number[], b: readonly number[], count: number): boolean {
  if (a === b) return true;
  for (let i = 0; i < count; i++) if (a[i] !== b[i]) return false;
  return true;
}
