import { HeedError } from "../util/errors.js";

/**
 * Yields the items of one pass over a corpus after another. It ends if a later pass gives nothing, as that over a generator
 * does.
 *
 * @throws ERR_ARGUMENT if the first pass gives nothing.
 */
export async function* repeating<T>(op: string, pass: () => AsyncIterable<T>): AsyncGenerator<T> {
  for (let first = true; ; first = false) {
    let empty = true;
    for await (const item of pass()) {
      empty = false;
      yield item;
    }
    if (!empty) continue;
    if (first) throw new HeedError("ERR_ARGUMENT", `${op}: expected a corpus with sequences, got none`);
    return;
  }
}
