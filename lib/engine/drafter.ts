import type { Request } from "./request.js";

/** A request and the number of tokens to draft for it. */
export interface DraftLength {
  readonly request: Request;
  readonly count: number;
}

/** Bytes of memory for keys and values: all of it, and what the system has given of it. */
export interface KvSizes {
  readonly bytes: number;
  readonly resident: number;
}

/** A source of tokens that may follow those of a request. */
export interface Drafter {
  /** Returns how many tokens, at most `most`, can be drafted for a request. */
  available(request: Request, most: number): number;
  /**
   * Returns drafts for each of some requests; they may be fewer than asked for. `budget` is the number of tokens that a
   * model may compute to catch up with the requests.
   */
  draft(lengths: readonly DraftLength[], budget: number): number[][] | Promise<number[][]>;
  /** Bytes of its memory for keys and values. */
  readonly kvSizes: KvSizes;
  /** Frees its memory. */
  dispose(): void;
}
