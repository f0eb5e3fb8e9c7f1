/**
 * Cuts a stream of text before the first stop string, wherever the pieces of the stream break. Text that may be the
 * beginning of a stop string is held back until that is decided.
 *
 * The stop string that is completed first counts, and the longest of those that end at the same place. So the result
 * does not depend on how the text was cut into pieces.
 */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = "";
  #stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** True if a stop string has been found. From then on no text is returned. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes the next piece and returns the text that is certain to come before any stop string. */
  push(piece: string): string {
    if (this.#stopped) return "";
    const text = this.#held + piece;
    const cut = this.#find(text);
    this.#stopped = cut !== -1;
    const out = text.slice(0, this.#stopped ? cut : text.length - this.#undecided(text));
    this.#held = this.#stopped ? "" : text.slice(out.length);
    return out;
  }

  /** Returns the text that is still held back, when no more pieces come. */
  end(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  /** Returns the position where the first stop string begins, or -1. */
  #find(text: string): number {
    let start = -1;
    let end = Infinity;
    for (const stop of this.#stops) {
      const at = text.indexOf(stop);
      if (at === -1) continue;
      const ends = at + stop.length;
      if (ends < end || (ends === end && at < start)) [start, end] = [at, ends];
    }
    return start;
  }

  /** Returns the length of the longest suffix of `text` that is the beginning of a stop string. */
  #undecided(text: string): number {
    let longest = 0;
    for (const stop of this.#stops)
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--)
        if (text.endsWith(stop.slice(0, length))) longest = length;
    return longest;
  }
}
