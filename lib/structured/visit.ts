// The work of finding the tokens that may follow at one place, and the limits to it.
import { HeedError } from "../util/errors.js";

/** Largest number of states that the tokens at one place lead to; one with many ways to go on counts as several. */
const mostVisited = 2 ** 16;

/** A state, as far as its weight is concerned. */
interface Visited {
  readonly id: number;
  readonly items: readonly unknown[];
  readonly edges: readonly unknown[];
  readonly places: number;
}

/** States that the tokens at one place have led to, and the bytes that they have taken. */
export class Visit {
  readonly era: object;
  /** Places that were looked at since the last pause. */
  work = 0;
  /** Steps of all walks, about: nodes that were looked at, and more for states that were made. */
  steps = 0;
  /** Bytes that were added so far, and those that the automaton had after the last pause. */
  added = 0;
  before: number;
  /** States on the way to a node, by the number of bytes before them. */
  readonly path: Int32Array;
  /** 1 for each state that has been counted. */
  seen = new Uint8Array(1024);
  #weight = 0;

  /** Begins to count, for tokens of at most `longest` bytes. */
  constructor(era: object, bytes: number, longest: number) {
    this.era = era;
    this.before = bytes;
    this.path = new Int32Array(longest + 1);
  }

  /** @throws ERR_ARGUMENT if there are too many. */
  add({ id, items, edges, places }: Visited): void {
    if (id >= this.seen.length) {
      const larger = new Uint8Array(2 * id);
      larger.set(this.seen);
      this.seen = larger;
    }
    if (this.seen[id] === 1) return;
    this.seen[id] = 1;
    this.#weight += 1 + (items.length + edges.length) / 4 + places / 32;
    if (this.#weight > mostVisited) throw tooMany();
  }
}

/** Returns the error of a form that cannot be followed. */
export function tooMany(): HeedError {
  return new HeedError(
    "ERR_ARGUMENT",
    "format: expected a form in which the next characters decide more of what follows, got one with too many possibilities",
  );
}
