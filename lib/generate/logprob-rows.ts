import type { TokenLogprob, TokenLogprobs } from "./token-logprobs.js";

/** Number of rows that there is room for at first. */
const fewest = 16;

/**
 * Log-probabilities of a text's tokens, in typed arrays: an answer may have a hundred thousand tokens, and as objects the
 * twenty likeliest tokens at each place would take 1.7 KB. Every token has the same number of likeliest ones.
 */
export class LogprobRows implements Iterable<TokenLogprobs> {
  #tokens = new Int32Array();
  #logprobs = new Float32Array();
  /** Numbers of a row: the token itself, and the likeliest ones. */
  #columns = 0;
  /** Number of rows that were dropped at the beginning. */
  #dropped = 0;
  /** Row of the arrays at which the first row lies that was not dropped. */
  #first = 0;
  #length = 0;

  /** Number of tokens that were added, with those that were dropped. */
  get length(): number {
    return this.#length;
  }

  /** Adds the log-probabilities of the next token. */
  push({ token, logprob, top }: TokenLogprobs): void {
    this.#columns ||= 1 + top.length;
    this.#makeRoom();
    let at = (this.#first + this.#length++ - this.#dropped) * this.#columns;
    for (const one of [{ token, logprob }, ...top]) {
      this.#tokens[at] = one.token;
      this.#logprobs[at++] = one.logprob;
    }
  }

  /** Returns the log-probabilities of a token; undefined if it has none or they were dropped. */
  at(index: number): TokenLogprobs | undefined {
    if (index < this.#dropped || index >= this.#length) return undefined;
    const start = (this.#first + index - this.#dropped) * this.#columns;
    const one = (at: number): TokenLogprob => ({ token: this.#tokens[at]!, logprob: this.#logprobs[at]! });
    const top = Array.from({ length: this.#columns - 1 }, (_, i) => one(start + 1 + i));
    return { ...one(start), top };
  }

  /** Drops the log-probabilities of the tokens before `index`. */
  dropBefore(index: number): void {
    const count = Math.min(index, this.#length) - this.#dropped;
    if (count <= 0) return;
    this.#dropped += count;
    this.#first += count;
    if (this.#dropped === this.#length) this.#first = 0;
  }

  /** Yields the log-probabilities of the tokens that were not dropped. */
  *[Symbol.iterator](): Generator<TokenLogprobs, void, undefined> {
    for (let i = this.#dropped; i < this.#length; i++) yield this.at(i)!;
  }

  /** Makes room for one more row: moves the rows to the beginning if most of the arrays is free, or doubles the arrays. */
  #makeRoom(): void {
    const [kept, columns] = [this.#length - this.#dropped, this.#columns];
    if ((this.#first + kept + 1) * columns <= this.#tokens.length) return;
    const [start, end] = [this.#first * columns, (this.#first + kept) * columns];
    const size = Math.max(fewest, 2 * (kept + 1)) * columns;
    if (size <= this.#tokens.length) {
      this.#tokens.copyWithin(0, start, end);
      this.#logprobs.copyWithin(0, start, end);
    } else {
      const [tokens, logprobs] = [new Int32Array(size), new Float32Array(size)];
      tokens.set(this.#tokens.subarray(start, end));
      logprobs.set(this.#logprobs.subarray(start, end));
      [this.#tokens, this.#logprobs] = [tokens, logprobs];
    }
    this.#first = 0;
  }
}
