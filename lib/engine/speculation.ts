// Speculative decoding (Leviathan et al. 2023, arXiv:2211.17192; Saxena 2023, prompt lookup). Tokens that may come next
// are drafted, and the model computes them all in one step, which takes little longer than a step of one token. A token
// is drawn after each of them, with the random number of its own position. As long as the drawn token is the draft, the
// draft was right; the first one that differs is the real next token, and what was computed after it is discarded. So
// the tokens are those that the model draws without drafts.
import { largest } from "../util/largest.js";
import type { Drawn } from "../generate/draws.js";
import { checkBoolean, checkInteger } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { CausalDecoder } from "../models/causal-decoder.js";
import { DraftModel } from "./draft-model.js";
import { DraftPolicy } from "./draft-policy.js";
import type { Drafter, DraftLength, KvSizes } from "./drafter.js";
import { NgramDrafts } from "./ngram-drafts.js";
import type { PageCounts } from "./kv-memory.js";
import type { Request } from "./request.js";
import type { Scheduler, Work } from "./scheduler.js";
import type { Statistics } from "./statistics.js";

/** Options of an engine's speculation. */
export interface SpeculationOptions {
  /**
   * Smaller model with the same tokens that drafts; null drafts what followed the latest tokens before. The model stays
   * the caller's, and must not be disposed while the engine is open.
   *
   * @default null
   */
  draft?: CausalDecoder | null;
  /** Largest number of tokens that are drafted for a request in a step. @default 5 */
  tokens?: number;
  /**
   * True if the number of drafts follows from what is measured, so that nothing is drafted where it does not pay. False
   * always drafts as many as possible.
   *
   * @default true
   */
  adaptive?: boolean;
}

/** Number of steps without drafts after drafting has failed. */
const rest = 100;

/** Drafts tokens for the requests of an engine. */
export class Speculation {
  readonly #create: () => Drafter;
  /** Null if drafting has failed. */
  #drafter: Drafter | null;
  /** Number of steps until drafting is tried again after a failure. */
  #resting = 0;
  readonly #tokens: number;
  /** Null if as many tokens as possible are drafted. */
  readonly #policy: DraftPolicy | null;
  #began = 0;
  /** Number of tokens that were drafted. */
  draftedTokens = 0;
  /** Number of drafts that were accepted. */
  acceptedTokens = 0;

  constructor(create: () => Drafter, { tokens, adaptive }: { tokens: number; adaptive: boolean }) {
    this.#create = create;
    this.#drafter = create();
    this.#tokens = tokens;
    this.#policy = adaptive ? new DraftPolicy() : null;
  }

  /** Bytes of memory for the keys and values of a draft model. */
  get kvSizes(): KvSizes {
    return this.#drafter?.kvSizes ?? { bytes: 0, resident: 0 };
  }

  /** Notes that a step begins. */
  begin(): void {
    this.#began = performance.now();
  }

  /** Returns the work of a step with drafts, and without requests that have ended meanwhile. */
  async draft(work: readonly Work[], scheduler: Scheduler): Promise<readonly Work[]> {
    const drawn = work.filter(({ request, count }) => count === request.pending);
    const lengths = this.#lengths(work, drawn, scheduler)
      .map(({ request, count }) => ({ request, count: scheduler.roomForDrafts(request, count) }))
      .filter(({ count }) => count > 0);
    if (lengths.length === 0) return work;
    const drafts = await this.#draft(lengths, scheduler.spare(work));
    const known = new Map(lengths.map(({ request }, i) => [request, beforeStop(request, drafts[i] ?? [])]));
    return work
      .filter(({ request: { end } }) => end === null)
      .map((one) => ({ ...one, drafts: known.get(one.request) ?? [] }));
  }

  /** Returns true if something should be drafted in further steps of this work, which is one token of each request. */
  wants(work: readonly Work[], scheduler: Scheduler): boolean {
    return this.#lengths(work, work, scheduler).length > 0;
  }

  /** Notes how many of the drafts of a work were accepted. */
  verified({ request, drafts }: Work, accepted: number): void {
    if (drafts.length === 0) return;
    this.draftedTokens += drafts.length;
    this.acceptedTokens += accepted;
    this.#policy?.verified(request, drafts.length, accepted);
  }

  /** Notes that the tokens of a step were read, and that the next step begins if it has not begun. */
  finished(work: readonly Work[]): void {
    const now = performance.now();
    this.#policy?.measured(
      sum(work, ({ count }) => count),
      sum(work, ({ drafts }) => drafts.length),
      now - this.#began,
    );
    this.#began = now;
    if (this.#drafter === null) this.#retry();
  }

  /** Frees the memory of drafting. */
  dispose(): void {
    this.#drafter?.dispose();
    this.#drafter = null;
  }

  /**
   * Returns drafts for requests, and measures the time. A failure does not concern the requests, which go on without
   * drafts.
   */
  async #draft(lengths: readonly DraftLength[], budget: number): Promise<readonly number[][]> {
    const [drafter, began] = [this.#drafter!, this.#began];
    try {
      const drafts = await drafter.draft(lengths, budget);
      this.begin();
      const longest = largest(lengths.map(({ count }) => count));
      this.#policy?.drafted(lengths.length, (this.#began - began) / longest);
      return drafts;
    } catch {
      this.dispose();
      this.#resting = rest;
      return [];
    } finally {
      // If the engine was closed meanwhile, the memory may have been made again.
      if (this.#drafter !== drafter) drafter.dispose();
    }
  }

  /** Tries drafting again, with new memory, when some steps have passed since it failed. */
  #retry(): void {
    if (--this.#resting > 0) return;
    try {
      this.#drafter = this.#create();
    } catch {
      this.#resting = rest;
    }
  }

  /**
   * Returns the requests for which something should be drafted in a step with this work, and how much. `drawn` is the
   * work that gives its request a token.
   */
  #lengths(work: readonly Work[], drawn: readonly Work[], scheduler: Scheduler): DraftLength[] {
    const drafter = this.#drafter;
    if (!drafter) return [];
    const available = drawn
      .filter(({ request, count }) => request.speculates && count === 1)
      .map(({ request }) => ({ request, most: Math.min(this.#tokens, scheduler.mostDrafts(request)) }))
      .map(({ request, most }) => ({ request, count: most > 0 ? drafter.available(request, most) : 0 }))
      .filter(({ count }) => count > 0);
    if (available.length === 0) return [];
    const room = scheduler.spare(work);
    const tokens = sum(work, ({ count }) => count);
    const counts = this.#policy?.choose(available, { tokens, drawn: drawn.length, room }) ?? within(room, available);
    return available.map(({ request }, i) => ({ request, count: counts[i]! })).filter(({ count }) => count > 0);
  }
}

/** An engine's speculation after its options were checked. */
export interface SpeculationSettings {
  readonly draft: CausalDecoder | null;
  readonly tokens: number;
  readonly adaptive: boolean;
}

/**
 * @internal Checks an engine's option `speculation`, and fills in defaults.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if it is invalid, or if the draft model's vocabulary has another size than the model's.
 */
export function checkSpeculation(
  model: CausalDecoder,
  option: "ngram" | SpeculationOptions | null,
): SpeculationSettings | null {
  if (option === null) return null;
  if (option !== "ngram" && typeof option !== "object")
    throw new HeedError(
      "ERR_ARGUMENT",
      `Engine: expected speculation to be "ngram", an object or null, got ${describe(option)}`,
    );
  const { draft = null, tokens = 5, adaptive = true } = option === "ngram" ? {} : option;
  checkInteger("Engine", "speculation.tokens", tokens, 1);
  checkBoolean("Engine", "speculation.adaptive", adaptive);
  if (draft !== null) checkDraft(model, draft);
  return { draft, tokens, adaptive };
}

function checkDraft(model: CausalDecoder, draft: CausalDecoder): void {
  if (!(draft instanceof CausalDecoder))
    throw new HeedError(
      "ERR_ARGUMENT",
      `Engine: expected speculation.draft to be a decoder, such as a GPT or Llama, got ${describe(draft)}`,
    );
  const [size, own] = [model, draft].map(({ config }) => config.vocabularySize);
  if (size !== own)
    throw new HeedError(
      "ERR_ARGUMENT",
      `Engine: expected a draft model with the vocabulary of the model, ${size} tokens, got ${own}`,
    );
}

/** @internal Creates an engine's speculation. A draft model has memory for `pages` pages of `pageSize` tokens. */
export function createSpeculation({ draft, ...settings }: SpeculationSettings, pages: PageCounts): Speculation {
  return new Speculation(() => (draft ? new DraftModel(draft, pages) : new NgramDrafts()), settings);
}

/**
 * Gives a request the tokens that were drawn after its last one and after each of its drafts, as long as the drafts
 * before are right; `first` is the row of the first one, and `now` the time. Returns how many of the work's tokens are
 * thereby computed: the last one and the right drafts.
 */
export function acceptTokens(
  { request, drafts }: Work,
  drawn: Drawn,
  first: number,
  statistics: Statistics,
  now: number,
): number {
  for (let i = 0; ; i++) {
    const token = drawn.ids[first + i]!;
    if (token < 0 && i < drafts.length) {
      // A draft on which the model diverges also spoils the tokens before it. So the last one is computed again, alone.
      request.speculates = false;
      return i;
    }
    const { lastToken } = request.times;
    request.accept(drawn, first + i, now);
    statistics.token(request, lastToken);
    if (token !== drafts[i] || request.end !== null) return i + 1;
  }
}

/** Returns the drafts before the first one that would end the request. */
function beforeStop({ settings: { stopTokens } }: Request, drafts: readonly number[]): readonly number[] {
  const stop = drafts.findIndex((token) => token < 0 || stopTokens.has(token));
  return stop < 0 ? drafts : drafts.slice(0, stop);
}

/** Returns all that is available, as far as the room goes. */
function within(room: number, available: readonly DraftLength[]): number[] {
  let rest = room;
  return available.map(({ count }) => {
    const taken = Math.min(count, rest);
    rest -= taken;
    return taken;
  });
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
