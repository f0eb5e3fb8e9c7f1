/**
 * Cuts a stream of text before the first of some stop strings, wherever the pieces break. Text that may turn out to be
 * the beginning of one is held back until it is decided.
 *
 * The stop string that is complete first counts, of those that end together the longest: so the result does not depend
 * on how the text was cut into pieces.
 */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = "";
  #stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** Whether a stop string has come; nothing is given out any more. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes the next piece and returns what may be given out. */
  push(piece: string): string {
    if (this.#stopped) return "";
    const text = this.#held + piece;
    const cut = this.#find(text);
    this.#stopped = cut !== -1;
    const out = text.slice(0, this.#stopped ? cut : text.length - this.#undecided(text));
    this.#held = this.#stopped ? "" : text.slice(out.length);
    return out;
  }

  /** What was held back, once no more comes. */
  end(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }

  /** Where the first stop string begins, or -1. */
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

  /** Length of the longest end of `text` that begins a stop string. */
  #undecided(text: string): number {
    let longest = 0;
    for (const stop of this.#stops)
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--)
        if (text.endsWith(stop.slice(0, length))) longest = length;
    return longest;
  }
}
