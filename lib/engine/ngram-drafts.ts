// Drafts without a model: what followed the latest tokens when they occurred before, in the prompt or in the answer.
// Texts that quote their prompt, as summaries, corrections and code do, repeat many of its tokens.
import type { Drafter, DraftLength } from "./drafter.js";
import type { Request } from "./request.js";

/** Largest number of earlier places that are compared for a draft. */
const mostPlaces = 32;
/** Number of equal tokens from which on an earlier place is not compared with others. */
const enoughTokens = 8;
/** Factor above every token id. */
const radix = 2 ** 26;

/** Finds where the latest tokens of a growing sequence occurred before. */
export class NgramIndex {
  readonly #tokens: readonly number[];
  /** Latest place of each pair of neighbours, which is that of its second token. */
  readonly #latest = new Map<number, number>();
  /** The place before each place that has the same pair; -1 if there is none. */
  readonly #earlier: number[] = [-1];

  /** Creates an index of `tokens`, which may grow. */
  constructor(tokens: readonly number[]) {
    this.#tokens = tokens;
  }

  /**
   * Returns `count` tokens that may come next, or none. They are those that followed the longest end of the sequence, of
   * at least two tokens, that occurred before; of equally long ones, the latest counts.
   */
  draft(count: number): number[] {
    this.#update();
    const tokens = this.#tokens;
    let [best, longest] = [-1, 0];
    let place = this.#earlier[tokens.length - 1] ?? -1;
    for (let i = 0; place >= 0 && i < mostPlaces && longest < enoughTokens; i++) {
      const equal = this.#equalTokens(place);
      if (equal > longest) [best, longest] = [place, equal];
      place = this.#earlier[place]!;
    }
    if (best < 0) return [];
    // A draft that reaches the end of the sequence goes on with its own beginning.
    const period = tokens.length - 1 - best;
    return Array.from({ length: count }, (_, i) => tokens[best + 1 + (i % period)]!);
  }

  /** Adds the tokens that have come since the last call. */
  #update(): void {
    const tokens = this.#tokens;
    for (let i = this.#earlier.length; i < tokens.length; i++) {
      const pair = tokens[i - 1]! * radix + tokens[i]!;
      this.#earlier.push(this.#latest.get(pair) ?? -1);
      this.#latest.set(pair, i);
    }
  }

  /** Returns how many tokens up to a place equal those up to the end. */
  #equalTokens(place: number): number {
    const tokens = this.#tokens;
    const last = tokens.length - 1;
    let equal = 2;
    while (equal < enoughTokens && equal <= place && tokens[place - equal] === tokens[last - equal]) equal++;
    return equal;
  }
}

/** Drafts what followed the latest tokens before. */
export class NgramDrafts implements Drafter {
  readonly #indices = new WeakMap<Request, NgramIndex>();
  readonly kvSizes = { bytes: 0, resident: 0 };

  available(request: Request, most: number): number {
    return this.#find(request, most).length;
  }

  draft(lengths: readonly DraftLength[]): number[][] {
    return lengths.map(({ request, count }) => this.#find(request, count));
  }

  dispose(): void {
    // The indices go with their requests.
  }

  #find(request: Request, count: number): number[] {
    let index = this.#indices.get(request);
    if (!index) this.#indices.set(request, (index = new NgramIndex(request.tokens)));
    return index.draft(count);
  }
}
