// Decides which tokens of which requests a step computes. Every step serves running requests first, in the order of
// priority and arrival: one token for those that generate, and a piece of the prompt for the others, as far as the
// budget of tokens goes. Then waiting requests join. If pages run out, the last running request gives its pages back and
// waits; what it had is computed again later, unless the prefix cache still has it.
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
}

export class Scheduler {
  readonly #table: PageTable;
  readonly #limits: StepLimits;
  #waiting: Request[] = [];
  #running: Request[] = [];
  /** Number of times that a running request had to give its pages back. */
  preemptions = 0;
  /** Number of tokens that did not have to be computed because the prefix cache had them. */
  cachedTokens = 0;

  constructor(table: PageTable, limits: StepLimits) {
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

  /** Removes the requests that have ended and frees their pages. */
  removeEnded(): void {
    const ended = ({ end }: Request): boolean => end !== null;
    for (const request of this.#running.filter(ended)) this.#free(request);
    this.#running = this.#running.filter((request) => !ended(request));
    this.#waiting = this.#waiting.filter((request) => !ended(request));
  }

  /** Takes the pages of all requests, which are then computed from the beginning. */
  restart(): void {
    this.removeEnded();
    while (this.#running.length > 0) {
      const request = this.#running.pop()!;
      this.#free(request);
      this.add(request);
    }
  }

  /** Returns the work of the next step; there is none only if there are no requests. */
  next(): Work[] {
    this.removeEnded();
    let budget = this.#limits.maxBatchTokens;
    const work: Work[] = [];
    const take = (request: Request, count: number): void => {
      work.push({ request, count });
      budget -= count;
    };
    for (let i = 0; i < this.#running.length && budget > 0; i++) {
      const request = this.#running[i]!;
      const count = Math.min(request.pending, budget);
      let runs = true;
      while (runs && !this.#reserve(request, count)) runs = this.#preempt() !== request;
      if (runs) take(request, count);
    }
    while (this.#waiting.length > 0 && budget > 0 && this.#running.length < this.#limits.maxSequences) {
      const request = this.#waiting[0]!;
      this.#reuse(request);
      const count = Math.min(request.pending, budget);
      if (!this.#reserve(request, count)) {
        this.#free(request);
        break;
      }
      this.#waiting.shift();
      this.#running.push(request);
      this.#running.sort(before);
      this.cachedTokens += request.computed;
      take(request, count);
    }
    return work;
  }

  /** Notes that a step that computes `count` tokens of a request has been enqueued. */
  enqueued(request: Request, count: number): void {
    request.computed += count;
    this.share(request);
  }

  /** Lets others share the pages of a request that are full, as far as their tokens are known. */
  share(request: Request): void {
    const known = Math.min(request.computed, request.tokens.length);
    for (; (request.registered + 1) * this.#table.pageSize <= known; request.registered++)
      this.#table.register(request.tokens, request.pages, request.registered);
  }

  /** True if no waiting request could join a step. */
  get full(): boolean {
    return this.#waiting.length === 0 || this.#running.length >= this.#limits.maxSequences;
  }

  /** Gives every request pages for one more token, and returns true, or returns false if there are not enough. */
  extend(requests: readonly Request[]): boolean {
    return requests.every((request) => this.#reserve(request, 1));
  }

  /** Gives a request pages for `count` more tokens. Returns false if there are not enough; it then has some of them. */
  #reserve(request: Request, count: number): boolean {
    const needed = Math.ceil((request.computed + count) / this.#table.pageSize);
    while (request.pages.length < needed) {
      const page = this.#table.allocate();
      if (page === null) return false;
      request.pages.push(page);
    }
    return true;
  }

  /** Takes over the pages that the prefix cache has for a request. At least one token stays to be computed. */
  #reuse(request: Request): void {
    const { pageSize } = this.#table;
    request.pages = this.#table.find(request.tokens, Math.floor((request.tokens.length - 1) / pageSize));
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

  #free(request: Request): void {
    // The last pages are used again first, so that beginnings, which others may share, stay longest.
    for (const page of request.pages.toReversed()) this.#table.release(page);
    request.pages = [];
    request.computed = 0;
    request.registered = 0;
  }
}
