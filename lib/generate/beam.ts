import type { Outcome } from "./diverged.js";
import type { FinishReason } from "./sequence.js";

/** One of the likeliest continuations of a prompt. */
export interface Hypothesis {
  /** The tokens that follow the prompt, without the stop token. */
  tokens: number[];
  /** Log-probability of the tokens, and of the stop token where one came, in nats. */
  total: number;
  /** What it is ranked by: `total` over the penalty of its length. */
  score: number;
  finishReason: FinishReason;
}

/** How a prompt's beam is searched; see `BeamSearchOptions`. */
export interface BeamSettings {
  beams: number;
  minTokens: number;
  nBest: number;
  stopTokens: ReadonlySet<number>;
  earlyStopping: boolean;
}

/** A token and those before it, which hypotheses that begin alike share. */
interface Path {
  token: number;
  before: Path | null;
}

interface Beginning {
  path: Path | null;
  total: number;
}

interface Candidate {
  /** Which of the hypotheses it goes on from. */
  parent: number;
  token: number;
  total: number;
}

/**
 * The hypotheses of one prompt, step by step: those that go on, best first, and the best of those that have ended.
 * Sums are float64.
 */
export class Beam {
  alive: Beginning[] = [{ path: null, total: 0 }];
  /** Best first; of equal scores the one that ended first. */
  readonly ended: Hypothesis[] = [];
  readonly #settings: BeamSettings;
  /** The penalty of each length that there can be. */
  readonly #penalties: readonly number[];
  /** The largest penalty of this length and those that may follow. */
  readonly #largest: readonly number[];
  #length = 0;
  #endings = 0;
  #diverged = false;

  /** @param penalties of 1, 2, … tokens, as many as there may be */
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

  /** The last token of each hypothesis that goes on. */
  get lastTokens(): number[] {
    return this.alive.map(({ path }) => path!.token);
  }

  /**
   * Takes the step's likeliest tokens, in falling order with their log-probabilities: as many for each hypothesis that
   * goes on, `beams` of them and one more for each stop token (or the whole vocabulary). Returns which hypotheses the new
   * ones go on from. Log-probabilities that are NaN, as there is no distribution, end the search.
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
    // Equal ones stay in order: that of the better hypothesis first, then that of the lower token.
    const ranked = candidates
      .filter(({ token, total }) => total > -Infinity && (mayEnd || !stopTokens.has(token)))
      .sort((a, b) => b.total - a.total);
    const next: Candidate[] = [];
    for (const [rank, candidate] of ranked.entries()) {
      if (!stopTokens.has(candidate.token)) next.push(candidate);
      // What would not have been kept does not end either: else a poor short hypothesis ended at every step.
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

  /** Whether nothing that goes on can be among the best any more, or need be. */
  #decided(): boolean {
    const { beams, nBest, earlyStopping } = this.#settings;
    if (earlyStopping) return this.#endings >= beams;
    const worst = this.ended[nBest - 1];
    // A total only falls, so this is the best that any of them can come to.
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
