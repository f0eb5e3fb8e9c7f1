// Long work on the JavaScript thread is done in pieces. Between them the event loop runs, so that timers, requests and
// other promises are served.
import { setImmediate as immediate } from "node:timers/promises";

/** Milliseconds of a turn of the event loop after which long work waits for the next one. */
const longest = 8;

/** Time at which the current turn began, as far as long work is concerned; null if there was none in it. */
let began: number | null = null;

/**
 * Returns true if long work has used the current turn of the event loop for long enough. All long work of this thread
 * shares the turn: ten prompts that are encoded at the same time hold it up for no longer than one.
 */
export function turnIsLong(): boolean {
  if (began !== null) return performance.now() - began >= longest;
  began = performance.now();
  setImmediate(() => {
    began = null;
  });
  return false;
}

/** Resolves in the next turn of the event loop. */
export async function nextTurn(): Promise<void> {
  await immediate();
  // What follows counts.
  turnIsLong();
}

/** Resolves at once, or in the next turn of the event loop if this one has been used for long enough. */
export async function pauseIfLong(): Promise<void> {
  if (turnIsLong()) await nextTurn();
}

/**
 * Resolves in a turn of the event loop that has room for a short piece of work, which cannot pause. If there is no such
 * turn for some time, it takes one that has none.
 */
export async function turnWithRoom(): Promise<void> {
  for (let missed = 0; missed < 16 && turnIsLong(); missed++) await nextTurn();
}

/** Work that yields wherever it can pause, hundreds of times a second, and then returns its result. */
export type Steps<T> = Generator<undefined, T>;

/** Does the work without pausing and returns its result. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** Does the work in turns of some milliseconds, between which the event loop runs, and returns its result. */
export async function inTurns<T>(steps: Steps<T>): Promise<T> {
  await pauseIfLong();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (turnIsLong()) await nextTurn();
  }
}

/** Numbers in a piece of work that has no better measure: converting them takes some milliseconds. */
export const pieceLength = 2 ** 19;

/** Yields an array in pieces of `pieceLength` and pauses between them if necessary. */
export async function* inPieces<T extends Float32Array | Uint8Array>(values: T): AsyncGenerator<T> {
  for (let at = 0; at < values.length; at += pieceLength) {
    await pauseIfLong();
    yield values.subarray(at, at + pieceLength) as T;
  }
}

/** Returns the `length` numbers of the pieces in one array. */
export async function joined(pieces: AsyncIterable<Float32Array>, length: number): Promise<Float32Array> {
  const values = new Float32Array(length);
  let at = 0;
  for await (const piece of pieces) {
    values.set(piece, at);
    at += piece.length;
    await pauseIfLong();
  }
  return values;
}
