// Long work on the JavaScript thread is done in pieces, between which the event loop goes round: timers, requests and
// other people's promises have their turn.
import { setImmediate } from "node:timers/promises";

/** Milliseconds that a piece of work takes at most, as far as it ends where it could. */
const longest = 8;

/** Tells work on the JavaScript thread when to let the event loop go round. */
export class Turns {
  #began = performance.now();

  /** Tells whether the work has taken this turn of the event loop for long. */
  get long(): boolean {
    return performance.now() - this.#began >= longest;
  }

  /** Resolves at once, or on the event loop's next turn where this one has been the work's for long. */
  async pause(): Promise<void> {
    if (!this.long) return;
    await setImmediate();
    this.#began = performance.now();
  }
}

/** Work that yields where it can rest, hundreds of times a second, and then returns its result. */
export type Steps<T> = Generator<undefined, T>;

/** Does work without a rest. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** Does work in turns of some milliseconds, between which the event loop goes round. */
export async function inTurns<T>(steps: Steps<T>): Promise<T> {
  const turns = new Turns();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (turns.long) await turns.pause();
  }
}

/** Numbers of a piece where work has no better measure: some milliseconds of any conversion. */
export const pieceLength = 2 ** 19;

/** An array in pieces of `pieceLength`, with a pause between them where there is need. */
export async function* inPieces(values: Float32Array): AsyncGenerator<Float32Array> {
  const turns = new Turns();
  for (let at = 0; at < values.length; at += pieceLength) {
    await turns.pause();
    yield values.subarray(at, at + pieceLength);
  }
}

/** The `length` numbers of pieces in one array. */
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
