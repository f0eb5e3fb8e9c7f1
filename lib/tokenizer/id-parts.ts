// A text's ids in short parts, each of which takes little time to come by: joined at once, or with the event loop going
// round between them. Either way they are the same.
import { Turns } from "../turns.js";

/** Ids in their order, and undefined where work can rest. */
export type IdParts = Iterable<ArrayLike<number> | undefined>;

/** Takes ids, one after the other. */
export interface IdSink {
  push(id: number): unknown;
}

/** Ids that a part has about, where they are counted. */
export const partLength = 1024;

/** All of the ids. */
export function joinParts(parts: IdParts): Int32Array {
  const list = new IdList();
  for (const part of parts) if (part) list.append(part);
  const ids = new Int32Array(list.length);
  for (const [at, chunk] of list.chunks()) ids.set(chunk, at);
  return ids;
}

/** All of the ids; the event loop waits some milliseconds at most. */
export async function joinPartsInTurns(parts: IdParts): Promise<Int32Array> {
  const turns = new Turns();
  const list = new IdList();
  for (const part of parts) {
    if (part) list.append(part);
    if (turns.long) await turns.pause();
  }
  const ids = new Int32Array(list.length);
  for (const [at, chunk] of list.chunks()) {
    ids.set(chunk, at);
    await turns.pause();
  }
  return ids;
}

/** The first `most` ids of parts, which are asked for no more than that. */
export function* firstIds(parts: IdParts, most: number): IdParts {
  let left = most;
  for (const part of parts) {
    if (!part) {
      yield;
      continue;
    }
    yield part.length <= left ? part : Int32Array.from(part).subarray(0, left);
    left -= part.length;
    if (left <= 0) return;
  }
}

/** A text in slices of about `length` UTF-16 units, none of which ends within a character. */
export function* slicesOf(text: string, length: number): Generator<string> {
  for (let at = 0; at < text.length;) {
    let end = Math.min(at + length, text.length);
    if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end++;
    yield text.slice(at, end);
    at = end;
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00;
}

/**
 * Ids that come one after the other. The list grows by a chunk, without a copy of what is in it: an array of millions would
 * hold up the event loop each time it grows.
 */
export class IdList implements IdSink {
  length = 0;
  readonly #full: Int32Array[] = [];
  #chunk = new Int32Array(0);
  #used = 0;

  /** The last id; undefined where there is none. */
  get last(): number | undefined {
    return this.#used > 0 ? this.#chunk[this.#used - 1] : this.#full.at(-1)?.at(-1);
  }

  push(id: number): void {
    if (this.#used === this.#chunk.length) this.#grow(1);
    this.#chunk[this.#used++] = id;
    this.length++;
  }

  append(part: ArrayLike<number>): void {
    if (this.#used + part.length > this.#chunk.length) this.#grow(part.length);
    this.#chunk.set(part, this.#used);
    this.#used += part.length;
    this.length += part.length;
  }

  #grow(least: number): void {
    if (this.#used > 0) this.#full.push(this.#chunk.subarray(0, this.#used));
    this.#chunk = new Int32Array(Math.max(least, Math.min(2 ** 17, Math.max(64, this.length))));
    this.#used = 0;
  }

  /** Yields each chunk with the index of its first id. */
  *chunks(): Generator<[number, Int32Array]> {
    let at = 0;
    for (const chunk of [...this.#full, this.#chunk.subarray(0, this.#used)]) {
      yield [at, chunk];
      at += chunk.length;
    }
  }
}
