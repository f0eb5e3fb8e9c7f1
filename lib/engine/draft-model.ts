// Drafts by a smaller model, which draws its tokens with the random numbers that the large model will use, so that both
// often draw the same token when sampling, too. Its keys and values lie in pages of its own, with a prefix cache of their
// own: it reads the requests' tokens only when it drafts, as far as it has not read them.
import type { Drawn } from "../generate/draws.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import type { KvPages } from "../nn/kv-pages.js";
import type { Drafter, DraftLength, KvSizes } from "./drafter.js";
import { KvMemory, type PageCounts } from "./kv-memory.js";
import { PageTable } from "./page-table.js";
import { freePages, reservePages, reusePages, sharePages } from "./paged-sequence.js";
import { RecordedSteps } from "./recorded-steps.js";
import { Request } from "./request.js";
import type { Work } from "./scheduler.js";
import { runStep } from "./step.js";

/** A request as the draft model sees it: the request's tokens, and those that were drafted after them. */
class DraftSequence extends Request {
  readonly #request: Request;
  /** Number of tokens that are the request's. */
  #known: number;

  constructor(request: Request) {
    super(request, { ...request.settings, logprobs: null }, request.arrival);
    this.#request = request;
    this.#known = this.tokens.length;
  }

  /** Tokens that follow the request's. */
  get drafts(): number[] {
    return this.tokens.slice(this.#known);
  }

  /** Takes over the request's tokens. What was computed of drafts stays, as far as they were right. */
  follow(table: PageTable): void {
    const { tokens, forgotten } = this.#request;
    if (this.forgotten !== forgotten) freePages(table, this);
    this.forgotten = forgotten;
    let equal = this.#known;
    while (equal < this.tokens.length && this.tokens[equal] === tokens[equal]) equal++;
    this.keep(equal);
    this.computed = Math.min(this.computed, this.length);
    for (; equal < tokens.length; equal++) this.add(tokens[equal]!);
    this.#known = tokens.length;
    if (this.pages.length === 0) reusePages(table, this);
    sharePages(table, this);
  }
}

/** A sequence, and the number of drafts that it is to have. */
interface Drafting {
  readonly sequence: DraftSequence;
  readonly count: number;
}

/** Drafts by a model with the same vocabulary as the requests' model. */
export class DraftModel implements Drafter {
  readonly #model: CausalDecoder;
  readonly #table: PageTable;
  readonly #memory: KvMemory;
  readonly #recorded = new RecordedSteps();
  readonly #sequences = new Map<Request, DraftSequence>();

  constructor(model: CausalDecoder, pages: PageCounts) {
    this.#model = model;
    this.#table = new PageTable(pages.first, pages.pageSize, pages.most);
    this.#memory = new KvMemory(model, pages, this.#recorded);
  }

  get kvSizes(): KvSizes {
    return { bytes: this.#memory.bytes, resident: this.#memory.residentBytes(this.#table.highest) };
  }

  available(request: Request, most: number): number {
    // The model does not read the last draft.
    return Math.max(0, Math.min(most, this.#model.config.contextLength - request.length + 1));
  }

  async draft(lengths: readonly DraftLength[], budget: number): Promise<number[][]> {
    this.#removeEnded();
    const all = lengths.map(({ request, count }) => ({ sequence: this.#sequenceOf(request), count }));
    const ready = await this.#catchUp(all, budget);
    // Sequences that are to have the same number of further drafts get them without waiting for each other's tokens.
    const missing = ({ sequence, count }: Drafting): number => count - sequence.drafts.length;
    for (let active = ready; active.length > 0;) {
      active = active.filter((one) => missing(one) > 0);
      if (active.length > 0)
        await this.#draft(
          active.map(({ sequence }) => sequence),
          Math.min(...active.map(missing)),
        );
    }
    return all.map(({ sequence }) => sequence.drafts);
  }

  dispose(): void {
    this.#recorded.dispose();
    this.#memory.dispose();
  }

  /** Returns the sequence of a request, with all tokens that the request has. */
  #sequenceOf(request: Request): DraftSequence {
    let sequence = this.#sequences.get(request);
    if (!sequence) this.#sequences.set(request, (sequence = new DraftSequence(request)));
    sequence.follow(this.#table);
    return sequence;
  }

  /**
   * Computes the tokens that sequences lack, as far as the budget goes, and returns those that can then be drafted for:
   * they lack their last token, or have their first draft.
   */
  async #catchUp(all: readonly Drafting[], budget: number): Promise<Drafting[]> {
    let rest = budget;
    const ready: Drafting[] = [];
    const work: Work[] = [];
    for (const { sequence, count } of all) {
      const tokens = Math.min(sequence.pending, rest);
      const whole = tokens === sequence.pending;
      if (tokens === 0 || !this.#reserve(sequence, whole ? tokens + count - 1 : tokens, all)) continue;
      rest -= tokens;
      work.push({ request: sequence, count: tokens, drafts: [] });
      if (whole) ready.push({ sequence, count });
    }
    if (work.some(({ count }) => count > 1)) await this.#run(work);
    return ready;
  }

  /** Drafts `count` tokens for each of the sequences, of which each has one token that is not computed. */
  async #draft(sequences: readonly DraftSequence[], count: number): Promise<void> {
    const steps = this.#recorded.for(this.#model, this.#pages, sequences);
    steps.begin(sequences);
    const reading = Array.from({ length: count }, () => {
      const drawn = steps.run()();
      for (const sequence of sequences) sequence.computed++;
      return drawn;
    });
    for (const drawn of await Promise.all(reading)) add(sequences, drawn);
  }

  /** Runs a step, and adds the drawn tokens to the sequences. */
  async #run(work: readonly Work[]): Promise<void> {
    const { ended, drawn } = runStep(this.#model, this.#pages, work);
    for (const { request, count } of work) request.computed += count;
    const sequences = ended.map(({ request }) => request);
    add(sequences, await drawn);
  }

  get #pages(): KvPages {
    return this.#memory.pages(this.#table.pages + 1); // one page for rows without a request
  }

  /** Gives a sequence pages for `count` more tokens, which those that are not in use may have to give back. */
  #reserve(sequence: Request, count: number, used: readonly Drafting[]): boolean {
    while (!reservePages(this.#table, sequence, count)) {
      if (this.#table.grow()) continue;
      const kept = new Set(used.map((one) => one.sequence));
      for (const other of this.#sequences.values()) if (!kept.has(other)) freePages(this.#table, other);
      return reservePages(this.#table, sequence, count);
    }
    return true;
  }

  #removeEnded(): void {
    for (const [request, sequence] of this.#sequences) {
      if (request.end === null) continue;
      freePages(this.#table, sequence);
      this.#sequences.delete(request);
    }
  }
}

/** Adds a drawn token to each sequence. If the model has diverged, any token will do. */
function add(sequences: readonly Request[], { ids }: Drawn): void {
  for (const [i, sequence] of sequences.entries()) sequence.add(Math.max(0, ids[i]!));
}
