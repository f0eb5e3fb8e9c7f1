// Answers as JSON, in parts. Thousands of vectors or of log-probabilities would hold the event loop for long if they became
// one text at once.
import { nextTurn, turnIsLong } from "../util/turns.js";

/** An array, or what is read like one. */
export interface Items<T> extends Iterable<T> {
  readonly length: number;
  at(index: number): T | undefined;
}

/** An array of what a function makes of each item. It is made when it is written. */
export class MappedArray<T> {
  constructor(
    readonly items: Items<T>,
    readonly map: (item: T) => unknown,
  ) {}

  /** Returns the array, for `JSON.stringify`. */
  toJSON(): unknown[] {
    return Array.from(this.items, this.map);
  }
}

/** Number of characters of a part, more or less. */
const usualLength = 2 ** 16;

/** Depth from which on values are written at once: that of an entry of the log-probabilities of a choice. */
const shallow = 5;

/** Number of items that are written at once, if they have no parts. */
const mostItems = 1024;

/**
 * Yields the JSON of a value in parts of some ten thousand characters, and lets the event loop run between them. The value
 * consists of what JSON knows, and of mapped arrays.
 */
export async function* streamedJson(value: unknown): AsyncGenerator<string, void, undefined> {
  let part = "";
  for (const piece of pieces(value, 0)) {
    part += piece;
    if (part.length >= usualLength) {
      yield part;
      part = "";
    }
    if (turnIsLong()) await nextTurn();
  }
  yield part;
}

function* pieces(value: unknown, depth: number): Generator<string, void, undefined> {
  if (typeof value !== "object" || value === null || depth >= shallow) yield JSON.stringify(value);
  else if (value instanceof MappedArray) yield* items(value.items, value.map, depth);
  else if (Array.isArray(value)) yield* items(value as unknown[], (one) => one, depth);
  else {
    let before = "{";
    for (const [name, member] of Object.entries(value)) {
      if (member === undefined) continue;
      yield `${before}${JSON.stringify(name)}:`;
      yield* pieces(member, depth + 1);
      before = ",";
    }
    yield before === "{" ? "{}" : "}";
  }
}

function* items<T>(list: Items<T>, map: (item: T) => unknown, depth: number): Generator<string, void, undefined> {
  const first = list.at(0);
  const isPlain = typeof first !== "object" || first === null;
  const step = isPlain ? mostItems : 1;
  yield "[";
  for (let from = 0; from < list.length; from += step) {
    if (from > 0) yield ",";
    const piece = Array.from({ length: Math.min(step, list.length - from) }, (_, i) => map(list.at(from + i)!));
    if (isPlain) yield JSON.stringify(piece).slice(1, -1);
    else yield* pieces(piece[0], depth + 1);
  }
  yield "]";
}
