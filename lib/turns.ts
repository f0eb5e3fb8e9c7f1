// Long work on the JavaScript thread is done in pieces. Between them the event loop runs, so that timers, requests and
// other promises are served.
import { setImmediate } from "node:timers/promises";

/** Milliseconds after which a piece of work ends, at the next place where it can. */
const longest = 8;

/** Clock that tells long work when to let the event loop run. */
export class Turns {
  #began = performance.now();

  /** True if the work has used the current turn of the event loop for long enough. */
  get long(): boolean {
    return performance.now() - this.#began >= longest;
  }

  /** Resolves at once, or on the next turn of the event loop if the work has used this one for long enough. */
  async pause(): Promise<void> {
    if (!this.long) return;
    await setImmediate();
    this.#began = performance.now();
  }
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
  const turns = new Turns();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (turns.long) await turns.pause();
  }
}

/** Numbers in a piece of work that has no better measure: converting them takes some milliseconds. */
export const pieceLength = 2 ** 19;

/** Yields an array in pieces of `pieceLength` and pauses between them if necessary. */
export async function* inPieces(values: Float32Array): AsyncGenerator<Float32Array> {
  const turns = new Turns();
  for (let at = 0; at < values.length; at += pieceLength) {
    await turns.pause();
    yield values.subarray(at, at + pieceLength);
  }
}

/** Returns the `length` numbers of the pieces in one array. */
export async function joined(pieces: AsyncIterable<Float32Array>, length: number): Promise<Float32Array> {
  const turns = new Turns();
  const values = new Float32Array(length);
  let at = 0;
  for await (const piece of pieces) {
    values.set(piece, at);
    at += piece.length;
    await turns.pause();
  }
  return values;
}
