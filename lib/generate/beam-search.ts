import { largest } from "../largest.js";
import type { KvCache } from "../nn/kv-cache.js";
import { checkBoolean, checkInteger, checkNumber } from "../ops/check.js";
import { topk } from "../ops/choose.js";
import { narrow, reshape } from "../ops/views.js";
import { scope } from "../scope.js";
import { tensor } from "../creation.js";
import { Beam, type BeamSettings, type Hypothesis } from "./beam.js";
import { type CausalModel, infer } from "./causal-model.js";
import { type Outcome, valuesOf } from "./diverged.js";
import { checkModel, checkOptions, checkSignal, checkTokens } from "./options.js";
import { type Sequence, sequencesOf } from "./sequence.js";
import { tokenLosses } from "./token-losses.js";
import { untilAborted } from "./until-aborted.js";

export interface BeamSearchOptions {
  /** How many hypotheses of a prompt go on at a time; 4 unless given. 1 is greedy. */
  beams?: number;
  /** How many are returned, best first, at most `beams`; 1 unless given. */
  nBest?: number;
  /** The most tokens of a hypothesis; 256 unless given. It also ends where the context is full. */
  maxTokens?: number;
  /** The fewest tokens before a stop token; 0 unless given. */
  minTokens?: number;
  /** Each of these ends its hypothesis; it counts in score and length but is not among the tokens. */
  stopTokens?: readonly number[];
  /**
   * What a hypothesis' log-probability is divided by for its score, since it falls with every token: the length to this
   * power (1 unless given: the mean a token; 0: no penalty), or a function of the length such as `wuPenalty(0.6)`.
   */
  lengthPenalty?: number | ((length: number) => number);
  /**
   * true (unless given): a prompt's search ends when `beams` of its hypotheses have. false: not before none that goes on
   * can come to be among the best `nBest`.
   */
  earlyStopping?: boolean;
  /** Stops the search, which rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** The length penalty ((5 + length) / 6)^α of Wu et al. 2016 (equation 14). */
export function wuPenalty(alpha: number): (length: number) => number {
  checkNumber("wuPenalty", "alpha", alpha, -Number.MAX_VALUE, Number.MAX_VALUE);
  return (length) => ((5 + length) / 6) ** alpha;
}

/**
 * The likeliest continuations of several prompts of token ids, of any lengths, by beam search: every step extends each of
 * a prompt's `beams` hypotheses by every token and goes on with the best `beams` of all these; those of them that a stop
 * token ends give their place to the next best. Of equal ones the better hypothesis' is first, then the lower token.
 *
 * Prompts are searched together, and each gets what it would get alone: its best `nBest` hypotheses in falling order of
 * score, fewer where there are fewer.
 *
 * Rejects with ERR_ARGUMENT or ERR_RANGE for a bad prompt or option, and with the signal's reason. Where the model diverges
 * on a hypothesis of a prompt (its logits have no distribution: NaN or Infinity among them, or nothing but -Infinity), the
 * other prompts are searched to their end; then it rejects with a `DivergedError` (ERR_DIVERGED), whose `results` are those
 * of all prompts.
 */
export async function beamSearch(
  model: CausalModel,
  prompts: readonly ArrayLike<number>[],
  options: BeamSearchOptions = {},
): Promise<Hypothesis[][]> {
  return valuesOf("beamSearch", "prompts", await searchBeams(model, prompts, options));
}

/** @internal `beamSearch`, and what has come of each prompt. */
export async function searchBeams(
  model: CausalModel,
  prompts: readonly ArrayLike<number>[],
  options: BeamSearchOptions,
): Promise<Outcome<Hypothesis[]>[]> {
  const op = "beamSearch";
  checkModel(op, model);
  const { maxTokens, lengthPenalty, signal, ...settings } = checkBeamOptions(op, model, options);
  const sequences = sequencesOf(op, model, prompts, { maxTokens, slide: null });
  signal?.throwIfAborted();
  const penalties = penaltiesOf(op, lengthPenalty, largest(sequences.map(({ limit }) => limit)));
  const beams = sequences.map(({ limit }) => new Beam(penalties.slice(0, limit), settings));
  const width = Math.min(settings.beams + settings.stopTokens.size, model.config.vocabularySize);
  using search = new Search(model, sequences, width);
  let running = beams;
  let candidates = search.begin(sequences);
  for (;;) {
    const { tokens, logProbabilities } = await untilAborted(candidates, signal);
    signal?.throwIfAborted();
    const parents: number[] = [];
    let row = 0;
    for (const beam of running) {
      const end = row + beam.alive.length;
      const [from, to] = [row * search.width, end * search.width];
      for (const parent of beam.advance(tokens.subarray(from, to), logProbabilities.subarray(from, to)))
        parents.push(row + parent);
      row = end;
    }
    running = running.filter(({ finished }) => !finished);
    if (running.length === 0) return beams.map(({ outcome }) => outcome);
    candidates = search.step(
      parents,
      running.flatMap(({ lastTokens }) => lastTokens),
    );
  }
}

interface Candidates {
  /** The likeliest tokens of each row, `width` of them in falling order. */
  tokens: Int32Array;
  logProbabilities: Float64Array;
}

/** What the device does: the rows of a cache, a hypothesis each, and the likeliest next tokens of each row. */
class Search implements Disposable {
  readonly #model: CausalModel;
  #cache: KvCache;

  constructor(
    model: CausalModel,
    sequences: readonly Sequence[],
    /** How many tokens of each row are looked at. */
    readonly width: number,
  ) {
    this.#model = model;
    // The last token of a hypothesis is never fed back.
    const longest = largest(sequences.map(({ tokens, limit }) => tokens.length + limit - 1));
    this.#cache = model.createCache(sequences.length, Math.min(longest, model.config.contextLength));
  }

  /** Runs the model over all prompts, padded at their ends. */
  begin(sequences: readonly Sequence[]): Promise<Candidates> {
    const counts = sequences.map(({ tokens }) => tokens.length);
    const length = largest(counts);
    const ids = new Int32Array(counts.length * length);
    for (const [row, { tokens }] of sequences.entries()) ids.set(tokens, row * length);
    return this.#advance(ids, [counts.length, length], counts);
  }

  /** Goes on from these rows, each by a token. */
  step(parents: readonly number[], tokens: readonly number[]): Promise<Candidates> {
    const same = parents.length === this.#cache.batch && parents.every((parent, row) => parent === row);
    if (!same) {
      const before = this.#cache;
      this.#cache = before.take(parents);
      before.dispose();
    }
    return this.#advance(Int32Array.from(tokens), [tokens.length, 1]);
  }

  dispose(): void {
    this.#cache.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** A pass of the model; what is read of it is small, whatever the vocabulary. */
  async #advance(ids: Int32Array, shape: number[], counts?: number[]): Promise<Candidates> {
    const { width } = this;
    const [values, tokens, losses] = await this.#likeliest(ids, shape, counts);
    const logProbabilities = Float64Array.from(values, (value, i) => {
      const row = Math.floor(i / width);
      return value - values[row * width]! - losses[row]!;
    });
    return { tokens, logProbabilities };
  }

  /**
   * Logits and ids of each row's likeliest tokens, [R, width], and −log p of the very likeliest, [R]: from these the others'
   * log-probabilities are exact, also where their p would be 0 in f32.
   */
  #likeliest(ids: Int32Array, shape: number[], counts?: number[]): Promise<[Float32Array, Int32Array, Float32Array]> {
    const model = this.#model;
    const cache = this.#cache;
    using logits = infer(model, () => {
      const input = tensor(ids, shape, { device: model.device });
      return model.forward(input, { cache, lastOnly: true, ...(counts && { counts }) }); // [R, V]
    });
    const reads = scope(() => {
      const top = topk(logits, this.width);
      const losses = tokenLosses(logits, reshape(narrow(top.ids, 1, 0, 1), [-1]));
      return [top.values.data(), top.ids.data(), losses.data()] as const;
    });
    return Promise.all(reads);
  }
}

interface CheckedOptions extends BeamSettings {
  maxTokens: number;
  lengthPenalty: number | ((length: number) => number);
  signal: AbortSignal | undefined;
}

/** Throws ERR_ARGUMENT or ERR_RANGE for the first option that is not what it has to be. */
function checkBeamOptions(op: string, model: CausalModel, options: BeamSearchOptions): CheckedOptions {
  checkOptions(op, options);
  const { beams = 4, nBest = 1, maxTokens = 256, minTokens = 0, stopTokens = [], lengthPenalty = 1 } = options;
  const { earlyStopping = true, signal } = options;
  checkInteger(op, "beams", beams, 1);
  checkInteger(op, "nBest", nBest, 1, beams);
  checkInteger(op, "maxTokens", maxTokens, 1);
  checkInteger(op, "minTokens", minTokens, 0, maxTokens);
  checkTokens(op, "stopTokens", stopTokens, model.config.vocabularySize);
  if (typeof lengthPenalty !== "function")
    checkNumber(op, "lengthPenalty", lengthPenalty, -Number.MAX_VALUE, Number.MAX_VALUE);
  checkBoolean(op, "earlyStopping", earlyStopping);
  checkSignal(op, signal);
  return { beams, nBest, maxTokens, minTokens, stopTokens: new Set(stopTokens), lengthPenalty, earlyStopping, signal };
}

/** The penalty of each length from 1 to `longest`. */
function penaltiesOf(op: string, penalty: number | ((length: number) => number), longest: number): number[] {
  const of = typeof penalty === "number" ? (length: number): number => length ** penalty : penalty;
  return Array.from({ length: longest }, (_, i) => {
    const value: unknown = of(i + 1);
    checkNumber(op, `the length penalty of ${i + 1} tokens`, value, Number.MIN_VALUE, Number.MAX_VALUE);
    return value as number;
  });
}
