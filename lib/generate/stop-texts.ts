// Texts before which an answer ends, found by an automaton (Aho and Corasick, "Efficient string matching", 1975): each
// character of the answer is read once, however many stop texts there are and however long they are.
import { HeedError } from "../util/errors.js";
import { describe } from "../ops/check.js";

/** Largest number of stop texts of a request. */
export const mostStops = 16;
/** Largest number of characters (code points) of a stop text. */
export const longestStop = 1000;

/** The state before the first character, and the first node of the tree. */
const root = 0;
/** Number that stands for a node that does not exist. */
const none = -1;

/**
 * The stop texts of a request, as a tree of their beginnings. A node is a state of the search: it stands for the longest
 * end of the text so far that is the beginning of a stop text.
 */
export class StopTexts {
  /** UTF-16 unit that leads to each node. */
  readonly #units: Uint16Array;
  /** First child of each node, and next child of its parent. A tree of 16 texts has at most 16 leaves. */
  readonly #child: Int32Array;
  readonly #sibling: Int32Array;
  /** Number of units of each node's text. */
  readonly #depth: Int32Array;
  /** Node of the longest proper end of each node's text that is the beginning of a stop text. */
  readonly #fallback: Int32Array;
  /** Length of the longest stop text with which each node's text ends; 0 if there is none. */
  readonly #complete: Int32Array;
  #nodes = 1;
  static #latest: { readonly stops: readonly string[]; readonly texts: StopTexts } | null = null;

  /** Returns the automaton of some stop texts. The prompts of a request have the same ones, and share it. */
  static of(stops: readonly string[]): StopTexts {
    const latest = StopTexts.#latest;
    const isSame = latest?.stops.length === stops.length && stops.every((stop, i) => stop === latest.stops[i]);
    if (isSame) return latest.texts;
    const texts = new StopTexts(stops);
    StopTexts.#latest = { stops: [...stops], texts };
    return texts;
  }

  constructor(stops: readonly string[]) {
    const most = 1 + stops.reduce((sum, stop) => sum + stop.length, 0);
    this.#units = new Uint16Array(most);
    this.#child = new Int32Array(most).fill(none);
    this.#sibling = new Int32Array(most).fill(none);
    this.#depth = new Int32Array(most);
    this.#fallback = new Int32Array(most);
    this.#complete = new Int32Array(most);
    for (const stop of stops) this.#add(stop);
    this.#link();
  }

  /** True if there are no stop texts. */
  get isEmpty(): boolean {
    return this.#nodes === 1;
  }

  /** Returns the state after a UTF-16 unit. */
  next(state: number, unit: number): number {
    for (let from = state; ; from = this.#fallback[from]!) {
      const found = this.#childOf(from, unit);
      if (found !== none) return found;
      if (from === root) return root;
    }
  }

  /** Returns the number of the last units that a stop text may begin with. */
  undecided(state: number): number {
    return this.#depth[state]!;
  }

  /** Returns the length of the longest stop text that ends at a state; 0 if none does. */
  complete(state: number): number {
    return this.#complete[state]!;
  }

  #childOf(node: number, unit: number): number {
    let child = this.#child[node]!;
    while (child !== none && this.#units[child] !== unit) child = this.#sibling[child]!;
    return child;
  }

  #add(stop: string): void {
    let node = root;
    for (let i = 0; i < stop.length; i++) {
      const unit = stop.charCodeAt(i);
      let child = this.#childOf(node, unit);
      if (child === none) {
        child = this.#nodes++;
        this.#units[child] = unit;
        this.#depth[child] = i + 1;
        this.#sibling[child] = this.#child[node]!;
        this.#child[node] = child;
      }
      node = child;
    }
    this.#complete[node] = stop.length;
  }

  /** Finds the fallback of each node, which is less deep than the node, level by level. */
  #link(): void {
    const level: number[] = [root];
    for (const node of level)
      for (let child = this.#child[node]!; child !== none; child = this.#sibling[child]!) {
        const fallback = node === root ? root : this.next(this.#fallback[node]!, this.#units[child]!);
        this.#fallback[child] = fallback;
        // The node's own text is longer than its ends.
        this.#complete[child] ||= this.#complete[fallback]!;
        level.push(child);
      }
  }
}

const loneSurrogate = /\p{Surrogate}/u;

/**
 * Checks the option `stop` and returns its texts.
 *
 * @throws ERR_ARGUMENT if it is not a string or an array of strings, or a string is empty or not well formed.
 * @throws ERR_RANGE if there are more than 16 strings, or one has more than 1,000 characters.
 */
export function checkStops(op: string, stop: unknown): readonly string[] {
  const list: unknown = typeof stop === "string" ? [stop] : stop;
  const wrong = (got: unknown): HeedError =>
    new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected stop to be a well-formed string that is not empty, or an array of such strings, got ${describe(got)}`,
    );
  if (!Array.isArray(list)) throw wrong(stop);
  if (list.length > mostStops)
    throw new HeedError("ERR_RANGE", `${op}: expected stop to have at most ${mostStops} strings, got ${list.length}`);
  for (const text of list as unknown[]) {
    if (typeof text !== "string" || text === "" || loneSurrogate.test(text)) throw wrong(stop);
    const length = charactersOf(text);
    if (length > longestStop)
      throw new HeedError(
        "ERR_RANGE",
        `${op}: expected each string of stop to have at most ${longestStop} characters, got ${length}`,
      );
  }
  return list as string[];
}

/** Returns the number of code points of a well-formed text. */
function charactersOf(text: string): number {
  let count = text.length;
  for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) === 0xdc00) count--;
  return count;
}
