// Long work on the JavaScript thread is done in pieces, between which the event loop goes round: timers, requests and
// other people's promises have their turn.
import { setImmediate } from "node:timers/promises";

/** Milliseconds that a piece of work takes at most, as far as it ends where it could. */
const longest = 8;

/** Tells work on the JavaScript thread when to let the event loop go round. */
export class Turns {
  #began = performance.now();

  /** Resolves at once, or on the event loop's next turn where this one has been the work's for long. */
  async pause(): Promise<void> {
    if (performance.now() - this.#began < longest) return;
    await setImmediate();
    this.#began = performance.now();
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
