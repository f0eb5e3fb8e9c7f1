// The ids of a text come in short parts, each of which takes little time to compute. They are joined at once, or in
// turns between which the event loop runs; the result is the same.
import { nextTurn, pauseIfLong, turnIsLong } from "../util/turns.js";

/** Ids in order, and undefined whenever the caller may pause the work. */
export type IdParts = Iterable<ArrayLike<number> | undefined>;

/** A receiver of ids. */
export interface IdSink {
  push(id: number): unknown;
}

/** Approximate number of ids in a part. */
export const partLength = 1024;

/** Returns all ids of the parts in one array. */
export function joinParts(parts: IdParts): Int32Array {
  const list = new IdList();
  for (const part of parts) if (part) list.append(part);
  const ids = new Int32Array(list.length);
  for (const [at, chunk] of list.chunks()) ids.set(chunk, at);
  return ids;
}

/** Resolves to all ids of the parts, or the first `maxLength` of them, in one array. The event loop is blocked for a few milliseconds at most. */
export async function joinPartsInTurns(
  parts: IdParts,
  { maxLength = Infinity }: { maxLength?: number } = {},
): Promise<Int32Array> {
  const list = new IdList();
  for (const part of maxLength < Infinity ? firstIds(parts, maxLength) : parts) {
    if (part) list.append(part);
    if (turnIsLong()) await nextTurn();
  }
  const ids = new Int32Array(list.length);
  for (const [at, chunk] of list.chunks()) {
    ids.set(chunk, at);
    await pauseIfLong();
  }
  return ids;
}

/** Yields the first `most` ids of the parts and computes no further parts. */
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

/** Yields a text in slices of about `length` UTF-16 units. No slice ends within a surrogate pair. */
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
 * A list of ids that grows in chunks. Nothing is copied when it grows; copying an array of millions of ids would block
 * the event loop every time.
 */
export class IdList implements IdSink {
  length = 0;
  readonly #full: Int32Array[] = [];
  #chunk = new Int32Array(0);
  #used = 0;

  /** The last id; undefined if the list is empty. */
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
