/** Draws texts from the bigrams of a book, in which some characters have a successor that only the context tells. */
import { type Draw, shuffled } from "./draw.js";

/** Number of characters whose successor is fixed within a sequence. */
export const triggers = 8;
/** Number of the book's most frequent characters; triggers and their successors are among them. */
export const common = 30;

/** Sequences of characters with their targets, and which targets can be copied. */
export interface Sequences {
  ids: Int32Array;
  targets: Int32Array;
  copyable: Uint8Array;
}

/** Source of sequences: the book's bigrams, except that some characters have one successor per sequence. */
export class BigramText {
  readonly vocabularySize: number;
  /** Cumulative probabilities of the successors of each character. */
  readonly #cumulative: Float64Array[];
  readonly #ranked: number[];

  constructor(text: string) {
    const codes = new Map([...new Set(text)].sort().map((character, id) => [character, id]));
    const size = codes.size;
    const counts = Array.from({ length: size }, () => new Float64Array(size));
    const totals = new Float64Array(size);
    let before = codes.get(text[0]!)!;
    for (const character of text.slice(1)) {
      const id = codes.get(character)!;
      counts[before]![id]! += 1;
      totals[before]! += 1;
      before = id;
    }
    this.vocabularySize = size;
    this.#ranked = [...totals.keys()].sort((a, b) => totals[b]! - totals[a]!);
    this.#cumulative = counts.map((row, id) => {
      let sum = 0;
      return row.map((count) => (sum += count / Math.max(1, totals[id]!)));
    });
  }

  /** Returns the book's most frequent characters, among which are the triggers and their successors. */
  get frequent(): number[] {
    return this.#ranked.slice(0, common);
  }

  /** Returns the probability that the book gives to a pair of neighbours, at least that of a rare pair. */
  probability(before: number, after: number): number {
    const row = this.#cumulative[before]!;
    return Math.max(1e-4, row[after]! - (row[after - 1] ?? 0));
  }

  /** Returns random sequences of `length` characters and their successors. */
  draw(rows: number, length: number, draw: Draw): Sequences {
    const ids = new Int32Array(rows * length);
    const targets = new Int32Array(rows * length);
    const copyable = new Uint8Array(rows * length);
    const { frequent } = this;
    for (let row = 0; row < rows; row++) {
      const chosen = shuffled(frequent, draw).slice(0, triggers);
      const successors = new Map(chosen.map((trigger) => [trigger, frequent[draw(common)]!]));
      const seen = new Set<number>();
      let id = frequent[draw(common)]!;
      for (let t = 0; t < length; t++) {
        const at = row * length + t;
        const next = successors.get(id) ?? this.#successor(id, draw);
        ids[at] = id;
        targets[at] = next;
        copyable[at] = Number(successors.has(id) && seen.has(id));
        seen.add(id);
        id = next;
      }
    }
    return { ids, targets, copyable };
  }

  #successor(id: number, draw: Draw): number {
    const row = this.#cumulative[id]!;
    const at = draw(2 ** 24) / 2 ** 24;
    const found = row.findIndex((sum) => sum > at);
    return found === -1 ? this.#ranked[0]! : found;
  }
}
