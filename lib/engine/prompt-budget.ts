/** Tokens of prompts that a step reads beside requests that generate, however long they take. */
const least = 32;
/** Tokens that a step has beside requests that generate before anything has been measured. */
const first = 128;
/** The part that the newest step has in the average. */
const share = 0.3;

/**
 * Decides how many tokens of prompts a step reads while requests generate, so that these do not wait much longer than
 * `milliseconds` for their next tokens. It learns from the steps how long a token takes.
 */
export class PromptBudget {
  /** Average time of a token in milliseconds; null before a step has been measured. */
  #time: number | null = null;

  constructor(private readonly milliseconds: number) {}

  /** Takes the time in milliseconds of a step of `tokens` tokens. Short steps say little about the time of a token. */
  add(tokens: number, milliseconds: number): void {
    if (tokens < least) return;
    const time = milliseconds / tokens;
    this.#time = this.#time === null ? time : share * time + (1 - share) * this.#time;
  }

  /** Returns the number of tokens that a step may have if `generating` requests get a token each. */
  beside(generating: number): number {
    if (generating === 0 || this.milliseconds === Infinity) return Infinity;
    const most = this.#time === null ? first : Math.floor(this.milliseconds / this.#time);
    return Math.max(generating + least, most);
  }
}
