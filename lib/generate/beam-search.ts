import { largest } from "../util/largest.js";
import type { KvCache } from "../nn/kv-cache.js";
import { checkBoolean, checkInteger, checkNumber } from "../ops/check.js";
import { topk } from "../ops/choose.js";
import { narrow, reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import { tensor } from "../core/creation.js";
import { Beam, type BeamSettings, type Hypothesis } from "./beam.js";
import { type CausalModel, infer } from "./causal-model.js";
import { type Outcome, valuesOf } from "./diverged.js";
import { checkModel, checkOptions, checkSignal, checkTokens } from "./options.js";
import { type Sequence, sequencesOf } from "./sequence.js";
import { tokenLosses } from "./token-losses.js";
import { untilAborted } from "../util/until-aborted.js";

/** Options of a beam search. */
export interface BeamSearchOptions {
  /** Number of hypotheses that are continued for each prompt; 1 is greedy search. @default 4 */
  beams?: number;
  /** Number of hypotheses that are returned for each prompt, at most `beams`. @default 1 */
  nBest?: number;
  /** Maximum number of tokens of a hypothesis. A hypothesis also ends when the model's context is full. @default 256 */
  maxTokens?: number;
  /** Minimum number of tokens before a stop token. @default 0 */
  minTokens?: number;
  /**
   * Tokens that end a hypothesis. A stop token counts in the score and the length, but is not part of `tokens`.
   *
   * @default []
   */
  stopTokens?: readonly number[];
  /**
   * Divisor of a hypothesis' log-probability in its score, which makes up for the fact that the log-probability falls
   * with every token. A number is the power to which the length is raised: 1 gives the mean log-probability of a token,
   * 0 no penalty. A function, such as `wuPenalty(0.6)`, returns the divisor for a length.
   *
   * @default 1
   */
  lengthPenalty?: number | ((length: number) => number);
  /**
   * If true, the search of a prompt ends as soon as `beams` of its hypotheses have ended. If false, it ends when no
   * running hypothesis can still become one of the best `nBest`.
   *
   * @default true
   */
  earlyStopping?: boolean;
  /** Signal that stops the search. The promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Returns the length penalty ((5 + length) / 6)^α of Wu et al. 2016, equation 14, for the option `lengthPenalty`.
 *
 * @example
 * const lengthPenalty = wuPenalty(0.6);
 * await beamSearch(gpt, [[72, 105]], { maxTokens: 8, lengthPenalty });
 *
 * @throws ERR_RANGE if `alpha` is not a finite number.
 *
 * @see Wu et al. 2016, arXiv:1609.08144
 */
export function wuPenalty(alpha: number): (length: number) => number {
  checkNumber("wuPenalty", "alpha", alpha, -Number.MAX_VALUE, Number.MAX_VALUE);
  return (length) => ((5 + length) / 6) ** alpha;
}

/**
 * Resolves to the likeliest continuations of several prompts of token ids, found by beam search. The prompts may differ
 * in length. Each step extends every hypothesis of a prompt by every token, and keeps the best `beams` of all these
 * extensions. If one of them ends with a stop token, the next best takes its place. Of two equal extensions, the one of
 * the better hypothesis comes first, then the one with the lower token.
 *
 * The result has the best `nBest` hypotheses of each prompt, by falling score, or fewer if fewer exist. The prompts are
 * searched together, but each gets the result that it would get alone.
 *
 * @example
 * const prompts = ["Call me", "The whale"].map((text) => tokenizer.encode(text));
 * const results = await beamSearch(gpt, prompts, { beams: 3, nBest: 2, maxTokens: 8 });
 * for (const [best] of results) console.log(tokenizer.decode(best!.tokens), best!.score);
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if a prompt or an option is invalid.
 * @throws the signal's reason if the signal aborts.
 * @throws DivergedError (ERR_DIVERGED) if the model diverges on a hypothesis of a prompt: the logits of a token contain
 * NaN or Infinity, or all of them are -Infinity. The other prompts are searched to their end first; the error's
 * `results` has the result of every prompt.
 */
export async function beamSearch(
  model: CausalModel,
  prompts: readonly ArrayLike<number>[],
  options: BeamSearchOptions = {},
): Promise<Hypothesis[][]> {
  return valuesOf("beamSearch", "prompts", await searchBeams(model, prompts, options));
}

/** @internal Resolves to the outcome of `beamSearch` for each prompt. */
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
  /** The `width` likeliest tokens of each row, by falling probability. */
  tokens: Int32Array;
  /** The log-probabilities of these tokens, in nats. */
  logProbabilities: Float64Array;
}

/**
 * The part of the search that runs on the device: a cache with one row for each hypothesis, and the choice of the
 * likeliest next tokens of each row.
 */
class Search implements Disposable {
  readonly #model: CausalModel;
  #cache: KvCache;

  constructor(
    model: CausalModel,
    sequences: readonly Sequence[],
    /** Number of tokens that are considered for each row. */
    readonly width: number,
  ) {
    this.#model = model;
    // The last token of a hypothesis is never fed back to the model.
    const longest = largest(sequences.map(({ tokens, limit }) => tokens.length + limit - 1));
    this.#cache = model.createCache(sequences.length, Math.min(longest, model.config.contextLength));
  }

  /** Runs the model over all prompts, which are padded at their ends. */
  begin(sequences: readonly Sequence[]): Promise<Candidates> {
    const counts = sequences.map(({ tokens }) => tokens.length);
    const length = largest(counts);
    const ids = new Int32Array(counts.length * length);
    for (const [row, { tokens }] of sequences.entries()) ids.set(tokens, row * length);
    return this.#advance(ids, [counts.length, length], counts);
  }

  /** Continues from the given rows, each by one token. */
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

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Runs the model once. Only the likeliest tokens are read, so little is copied, however large the vocabulary is. */
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
   * Reads the logits and ids of each row's likeliest tokens, [R, width], and −log p of the single likeliest one, [R].
   * From these, the log-probabilities of the other tokens are exact, even where p is too small for f32.
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

/**
 * Checks the options and fills in defaults.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE for the first invalid option.
 */
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

/** Returns the penalty of each length from 1 to `longest`. */
function penaltiesOf(op: string, penalty: number | ((length: number) => number), longest: number): number[] {
  const of = typeof penalty === "number" ? (length: number): number => length ** penalty : penalty;
  return Array.from({ length: longest }, (_, i) => {
    const value: unknown = of(i + 1);
    checkNumber(op, `the length penalty of ${i + 1} tokens`, value, Number.MIN_VALUE, Number.MAX_VALUE);
    return value as number;
  });
}
