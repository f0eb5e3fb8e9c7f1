import type { Device } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import { checkInteger, describe } from "../ops/check.js";
import { padSequences } from "../ops/pad-sequences.js";
import { scope } from "../core/scope.js";
import type { IntTensor } from "../core/tensor.js";
import type { Hypothesis } from "./beam.js";
import { type BeamSearchOptions, searchBeams } from "./beam-search.js";
import type { CausalModel } from "./causal-model.js";
import { type Outcome, valuesOf } from "./diverged.js";
import { checkOptions, checkTokens } from "./options.js";

/** A model that translates, as `translate` uses it. `EncoderDecoder` and `T5` are such models. */
export interface TranslationModel {
  readonly config: {
    /** Maximum number of tokens of a source, and of a target. */
    readonly contextLength: number;
    /** The token that every target begins after. */
    readonly startToken: number;
    /** The token that ends a target. */
    readonly endToken: number;
  };
  /** Number of tokens in the source's vocabulary. */
  readonly sourceVocabularySize: number;
  readonly device: Device;
  /** Returns a model that predicts the targets of these sources: ids i32 [B, S], lengths i32 [B]. */
  decoderFor(source: IntTensor, options: { lengths: IntTensor }): CausalModel & Disposable;
}

/** Options of a translation: those of beam search, with the model's end token as the stop token. */
export interface TranslateOptions extends Omit<BeamSearchOptions, "stopTokens"> {
  /** Number of sources that are translated together. @default 32 */
  batchSize?: number;
}

/**
 * Resolves to the likeliest targets of several sources of token ids, found by beam search (`beams: 1` is greedy). The
 * result has the best `nBest` targets of each source, by falling score. Sources of similar length are translated
 * together, but each gets the result that it would get alone.
 *
 * @example
 * const size = { layers: 1, heads: 2, width: 16, sourceVocabularySize: 20, contextLength: 16 };
 * const model = new EncoderDecoder({ ...size, startToken: 1, endToken: 2 }, { seed: 1 });
 * const [[best]] = await translate(model, [[5, 6, 7]], { maxTokens: 8 });
 * best.tokens;
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if a source or an option is invalid.
 * @throws the signal's reason if the signal aborts.
 * @throws DivergedError (ERR_DIVERGED) if the model diverges on a source: the logits of a token contain NaN or
 * Infinity, or all of them are -Infinity. The other sources are translated to their end first; the error's `results`
 * has the result of every source.
 */
export async function translate(
  model: TranslationModel,
  sources: readonly ArrayLike<number>[],
  options: TranslateOptions = {},
): Promise<Hypothesis[][]> {
  const outcomes = await translateEach(model, sources, options, "sources", 1);
  return valuesOf("translate", "sources", outcomes as Outcome<Hypothesis[]>[]);
}

/**
 * @internal Resolves to the outcome of `translate` for each source, or to null for an empty source. `name` is what
 * errors call the sources.
 *
 * @throws ERR_RANGE if a source has fewer than `least` tokens.
 */
export async function translateEach(
  model: TranslationModel,
  sources: readonly ArrayLike<number>[],
  options: TranslateOptions,
  name: string,
  least = 0,
): Promise<(Outcome<Hypothesis[]> | null)[]> {
  const op = "translate";
  if (typeof model !== "object" || model === null || typeof model.decoderFor !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model with decoderFor(), got ${describe(model)}`);
  checkOptions(op, options);
  const { batchSize = 32, ...search } = options;
  checkInteger(op, "batchSize", batchSize, 1);
  checkSources(op, model, sources, name, least);
  const { startToken, endToken } = model.config;
  const order = [...sources.keys()]
    .filter((index) => sources[index]!.length > 0)
    .sort((a, b) => sources[b]!.length - sources[a]!.length);
  const outcomes: (Outcome<Hypothesis[]> | null)[] = sources.map(() => null);
  for (let from = 0; from < order.length; from += batchSize) {
    const batch = order.slice(from, from + batchSize);
    using decoder = scope(() => {
      const { ids, lengths } = padSequences(
        batch.map((index) => sources[index]!),
        { device: model.device },
      );
      return model.decoderFor(ids, { lengths });
    });
    const starts = batch.map(() => [startToken]);
    const found = await searchBeams(decoder, starts, { ...search, stopTokens: [endToken] });
    for (const [i, index] of batch.entries()) outcomes[index] = found[i]!;
  }
  return outcomes;
}

function checkSources(
  op: string,
  { config, sourceVocabularySize }: TranslationModel,
  sources: readonly ArrayLike<number>[],
  name: string,
  least: number,
): void {
  if (!Array.isArray(sources))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected an array of ${name}, got ${describe(sources)}`);
  for (const [index, source] of (sources as ArrayLike<number>[]).entries()) {
    checkTokens(op, `${name}[${index}]`, source, sourceVocabularySize);
    if (source.length < least || source.length > config.contextLength)
      throw new HeedError(
        "ERR_RANGE",
        `${op}: expected ${name}[${index}] to have ${least} to ${config.contextLength} tokens, got ${source.length}`,
      );
  }
}
