import type { Device } from "../device.js";
import { HeedError } from "../errors.js";
import { checkInteger, describe } from "../ops/check.js";
import { padSequences } from "../ops/pad-sequences.js";
import { scope } from "../scope.js";
import type { IntTensor } from "../tensor.js";
import type { Hypothesis } from "./beam.js";
import { type BeamSearchOptions, searchBeams } from "./beam-search.js";
import type { CausalModel } from "./causal-model.js";
import { type Outcome, valuesOf } from "./diverged.js";
import { checkOptions, checkTokens } from "./options.js";

/** What translation needs of a model; `EncoderDecoder` and `T5` are such. */
export interface TranslationModel {
  readonly config: {
    /** The most tokens of a source, and of a target. */
    readonly contextLength: number;
    /** What a target begins after. */
    readonly startToken: number;
    /** What ends a target. */
    readonly endToken: number;
    // Of sources, or of sources and targets alike.
  } & ({ readonly sourceVocabularySize: number } | { readonly vocabularySize: number });
  readonly device: Device;
  /** What predicts the targets of sources i32 [B, S]. */
  decoderFor(source: IntTensor, options: { lengths: IntTensor }): CausalModel & Disposable;
}

export interface TranslateOptions extends Omit<BeamSearchOptions, "stopTokens"> {
  /** Sources that are translated together; 32 unless given. */
  batchSize?: number;
}

/**
 * The likeliest targets of several sources of token ids, by beam search (`beams: 1` is greedy): each source's best `nBest`,
 * in falling order of score. Sources of about the same length go together; each gets what it would get alone.
 *
 * Rejects with ERR_ARGUMENT or ERR_RANGE for a bad source or option, and with the signal's reason. Where the model diverges
 * on a source (logits of a next token have no distribution: NaN or Infinity among them, or nothing but -Infinity), the
 * others are translated to their end; then it rejects with a `DivergedError` (ERR_DIVERGED), whose `results` are those of
 * all sources.
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
 * @internal `translate`, and what has come of each source, which errors call `name`: null of one that is empty. Throws for
 * sources of fewer than `least` tokens.
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
  { config }: TranslationModel,
  sources: readonly ArrayLike<number>[],
  name: string,
  least: number,
): void {
  if (!Array.isArray(sources))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected an array of ${name}, got ${describe(sources)}`);
  const vocabularySize = "sourceVocabularySize" in config ? config.sourceVocabularySize : config.vocabularySize;
  for (const [index, source] of (sources as ArrayLike<number>[]).entries()) {
    checkTokens(op, `${name}[${index}]`, source, vocabularySize);
    if (source.length < least || source.length > config.contextLength)
      throw new HeedError(
        "ERR_RANGE",
        `${op}: expected ${name}[${index}] of ${least} to ${config.contextLength} tokens, got ${source.length}`,
      );
  }
}
