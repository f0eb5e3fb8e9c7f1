import type { Outcome } from "./diverged.js";
import type { FinishReason } from "./sequence.js";

/** A continuation of a prompt that a beam search found. */
export interface Hypothesis {
  /** The tokens that follow the prompt, without the stop token. */
  tokens: number[];
  /** Log-probability of the tokens in nats, including the stop token if there is one. */
  total: number;
  /** Value by which hypotheses are ranked: `total` divided by the penalty of the length. */
  score: number;
  /** Reason why the hypothesis ended. */
  finishReason: FinishReason;
}

/** Settings of a prompt's search; see `BeamSearchOptions`. */
export interface BeamSettings {
  beams: number;
  minTokens: number;
  nBest: number;
  stopTokens: ReadonlySet<number>;
  earlyStopping: boolean;
}

/** A token and the tokens before it. Hypotheses with the same beginning share it. */
interface Path {
  token: number;
  before: Path | null;
}

interface Beginning {
  path: Path | null;
  total: number;
}

interface Candidate {
  /** Index of the hypothesis that it extends. */
  parent: number;
  token: number;
  total: number;
}

/**
 * The search of one prompt: the running hypotheses, best first, and the best of those that have ended. Sums of
 * log-probabilities are float64.
 */
export class Beam {
  alive: Beginning[] = [{ path: null, total: 0 }];
  /** The best hypotheses that have ended, best first. Of two equal scores, the one that ended first comes first. */
  readonly ended: Hypothesis[] = [];
  readonly #settings: BeamSettings;
  /** The penalty of each length, from 1 token on. */
  readonly #penalties: readonly number[];
  /** Largest length penalty of each length and all longer ones, by length. */
  readonly #largest: readonly number[];
  #length = 0;
  #endings = 0;
  #diverged = false;

  /** Begins a search. `penalties` are those of 1, 2, … tokens, up to the maximum length. */
  constructor(penalties: readonly number[], settings: BeamSettings) {
    this.#settings = settings;
    this.#penalties = penalties;
    const largest = [...penalties];
    for (let i = largest.length - 2; i >= 0; i--) largest[i] = Math.max(largest[i]!, largest[i + 1]!);
    this.#largest = largest;
  }

  get finished(): boolean {
    return this.alive.length === 0;
  }

  /** The result of the search. If the model diverged on one hypothesis, the whole search counts as diverged. */
  get outcome(): Outcome<Hypothesis[]> {
    return { value: this.ended, divergedAfter: this.#diverged ? this.#length : null };
  }

  /** The last token of each running hypothesis. */
  get lastTokens(): number[] {
    return this.alive.map(({ path }) => path!.token);
  }

  /**
   * Extends the running hypotheses by one token. Takes the likeliest tokens of each of them, by falling
   * log-probability: as many for each hypothesis, at least `beams` and one more for each stop token, or the whole
   * vocabulary. Returns the indices of the hypotheses that the new ones extend. A log-probability of NaN means that
   * there is no distribution, and ends the search.
   */
  advance(tokens: Int32Array, logProbabilities: Float64Array): number[] {
    if (logProbabilities.some(Number.isNaN)) {
      this.#diverged = true;
      this.alive = [];
      return [];
    }
    const { beams, minTokens, stopTokens } = this.#settings;
    const before = this.alive;
    const mayEnd = this.#length++ >= minTokens;
    const width = tokens.length / before.length;
    const candidates = Array.from(tokens, (token, i): Candidate => {
      const parent = Math.floor(i / width);
      return { parent, token, total: before[parent]!.total + logProbabilities[i]! };
    });
    // The sort is stable: of two equal extensions, the one of the better hypothesis comes first, then the one with the
    // lower token.
    const ranked = candidates
      .filter(({ token, total }) => total > -Infinity && (mayEnd || !stopTokens.has(token)))
      .sort((a, b) => b.total - a.total);
    const next: Candidate[] = [];
    for (const [rank, candidate] of ranked.entries()) {
      if (!stopTokens.has(candidate.token)) next.push(candidate);
      // An extension that would not have been kept does not end either. Otherwise a poor short hypothesis would end at
      // every step.
      else if (rank < beams) this.#end(before[candidate.parent]!.path, candidate.total, "stop");
      if (next.length === beams) break;
    }
    this.alive = next.map(({ parent, token, total }) => ({ path: { token, before: before[parent]!.path }, total }));
    if (this.#length === this.#penalties.length) {
      for (const { path, total } of this.alive) this.#end(path, total, "length");
      this.alive = [];
    } else if (this.#decided()) this.alive = [];
    return next.slice(0, this.alive.length).map(({ parent }) => parent);
  }

  /** Returns true if no running hypothesis can still become one of the best, or if `earlyStopping` needs no more. */
  #decided(): boolean {
    const { beams, nBest, earlyStopping } = this.#settings;
    if (earlyStopping) return this.#endings >= beams;
    const worst = this.ended[nBest - 1];
    // A total only falls, so this is the best score that a running hypothesis can reach.
    return worst !== undefined && this.alive.every(({ total }) => total / this.#largest[this.#length]! <= worst.score);
  }

  #end(path: Path | null, total: number, finishReason: FinishReason): void {
    this.#endings++;
    const score = total / this.#penalties[this.#length - 1]!;
    const { ended } = this;
    const better = ended.findIndex((other) => score > other.score);
    ended.splice(better === -1 ? ended.length : better, 0, { tokens: tokensOf(path), total, score, finishReason });
    if (ended.length > this.#settings.nBest) ended.pop();
  }
}

function tokensOf(path: Path | null): number[] {
  const tokens: number[] = [];
  for (let at = path; at; at = at.before) tokens.push(at.token);
  return tokens.reverse();
}
