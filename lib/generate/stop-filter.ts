import type { StopTexts } from "./stop-texts.js";

/**
 * Cuts a stream of text before the first stop text, wherever the pieces of the stream break. Text that may be the
 * beginning of a stop text is held back until that is decided.
 *
 * The stop text that is completed first counts, and the longest of those that end at the same place. So the result does
 * not depend on how the text was cut into pieces.
 */
export class StopFilter {
  readonly #stops: StopTexts;
  #state = 0;
  #held = "";
  #stopped = false;

  constructor(stops: StopTexts) {
    this.#stops = stops;
  }

  /** True if a stop text has been found. From then on no text is returned. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes the next piece and returns the text that is certain to come before any stop text. */
  push(piece: string): string {
    if (this.#stopped) return "";
    if (this.#stops.isEmpty) return piece;
    for (let i = 0; i < piece.length; i++) {
      this.#state = this.#stops.next(this.#state, piece.charCodeAt(i));
      const length = this.#stops.complete(this.#state);
      if (length === 0) continue;
      this.#stopped = true;
      const text = this.end() + piece.slice(0, i + 1);
      return text.slice(0, text.length - length);
    }
    const undecided = this.#stops.undecided(this.#state);
    if (undecided === this.#held.length + piece.length) {
      this.#held += piece;
      return "";
    }
    const text = this.end() + piece;
    const certain = text.length - undecided;
    this.#held = text.slice(certain);
    return text.slice(0, certain);
  }

  /** Returns the text that is still held back, when no more pieces come. */
  end(): string {
    const held = this.#held;
    this.#held = "";
    return held;
  }
}
