// Scoring: the log-probabilities that a model gives to tokens that are known already. A scored sequence is a request like
// any other, except that it draws nothing: its tokens but the last are a prompt, computed in pieces beside the others, and
// each step reads how likely the known next tokens were.
import type { TokenLogprob } from "../generate/token-logprobs.js";
import { LogprobRows } from "../generate/logprob-rows.js";

/** Log-probabilities of the tokens of a sequence. */
export interface TokenScores {
  /** Log-probability of each scored token, given all tokens before it, in nats. */
  logProbabilities: Float32Array;
  /** Sum of the log-probabilities, in nats. */
  total: number;
  /** True if each scored token is the model's first choice, so that the model would generate them at temperature 0. */
  greedy: boolean;
  /** @internal The scored tokens with the likeliest ones in their places; null if the request asks for none. */
  logprobs: LogprobRows | null;
}

/** Tokens of a request that are scored, and what is known about them. */
export class Scoring {
  /** All tokens of the sequence. */
  readonly tokens: Int32Array;
  /** Index of the first token that is scored. */
  readonly first: number;
  /** Index of the first token whose score is not known yet. */
  next: number;
  /** Number of most likely tokens that are kept in the place of each token; null if none are. */
  readonly top: number | null;
  readonly #logProbabilities: Float32Array;
  #logprobs = new LogprobRows();
  #greedy = true;

  constructor(tokens: Int32Array, first: number, top: number | null = null) {
    this.top = top;
    this.tokens = tokens;
    this.first = this.next = first;
    this.#logProbabilities = new Float32Array(tokens.length - first);
  }

  /** True if every score is known. */
  get done(): boolean {
    return this.next === this.tokens.length;
  }

  /** True if some scores are known and others are not. */
  get begun(): boolean {
    return this.next > this.first;
  }

  get scores(): TokenScores {
    const logProbabilities = this.#logProbabilities;
    const total = logProbabilities.reduce((sum, value) => sum + value, 0);
    return { logProbabilities, total, greedy: this.#greedy, logprobs: this.top === null ? null : this.#logprobs };
  }

  /** Forgets all scores. */
  restart(): void {
    this.next = this.first;
    this.#greedy = true;
    this.#logprobs = new LogprobRows();
  }

  /**
   * Takes the loss of the next token and the model's first choice in its place. `likeliest` returns so many tokens of those
   * that are the most likely there. Returns false if the model diverged.
   */
  accept(loss: number, choice: number, likeliest: (count: number) => TokenLogprob[]): boolean {
    if (Number.isNaN(loss)) return false;
    if (this.top !== null)
      this.#logprobs.push({ token: this.tokens[this.next]!, logprob: -loss, top: likeliest(this.top) });
    this.#logProbabilities[this.next - this.first] = -loss;
    this.#greedy &&= choice === this.tokens[this.next];
    this.next++;
    return true;
  }
}
