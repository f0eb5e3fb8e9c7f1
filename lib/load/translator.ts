// The class that `load` returns for encoder–decoder models: `translate` for texts instead of tokens.
import { checkArray, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import type { Hypothesis } from "../generate/beam.js";
import { valuesOf } from "../generate/diverged.js";
import { type TranslateOptions, translateEach } from "../generate/translate.js";
import type { SequenceToSequence } from "../models/sequence-to-sequence.js";
import type { TextCodec } from "../pretrained/load-model.js";
import { Loaded, needed, ofOtherKind } from "./loaded.js";

/** Parts of a `Translator`. */
export interface TranslatorParts {
  /** The model. The `Translator` owns it and disposes it. */
  model: SequenceToSequence;
  /**
   * Conversion of texts to source tokens and of target tokens to texts. Without one (null), the model cannot translate
   * texts.
   */
  codec: TextCodec | null;
}

/** One of the likeliest translations of a text. */
export interface Translation extends Hypothesis {
  /** The translated text. */
  text: string;
}

/**
 * A model that turns one text into another, such as a translation.
 *
 * @example
 * // This downloads a model.
 * using model = await load("google-t5/t5-small", { kind: "encoder-decoder" });
 * const german = await model.translate("translate English to German: The whale is large.");
 */
export class Translator extends Loaded<SequenceToSequence> {
  /** Kind of the model. */
  readonly kind = "encoder-decoder";
  readonly #codec: TextCodec | null;

  /** Combines a model with its tokenizers. `load` does this for published models. */
  constructor({ model, codec }: TranslatorParts) {
    super(model);
    this.#codec = codec;
  }

  /**
   * Returns the tokens of a source text. An empty text has no tokens.
   *
   * @throws ERR_ARGUMENT if the model has no tokenizer and `load` was given none.
   */
  async encode(text: string): Promise<Int32Array> {
    return needed(this.#codec).encode(text);
  }

  /**
   * Returns the text of target tokens.
   *
   * @throws ERR_ARGUMENT if the model has no tokenizer and `load` was given none.
   */
  decode(tokens: readonly number[]): string {
    return needed(this.#codec).decode(tokens);
  }

  /**
   * Returns the text of source tokens.
   *
   * @throws ERR_ARGUMENT if the model has no tokenizer and `load` was given none.
   */
  decodeSource(tokens: readonly number[]): string {
    return needed(this.#codec).decodeSource(tokens);
  }

  /**
   * Returns the likeliest translation of a text. The translation of an empty text is empty.
   *
   * @example
   * const german = await model.translate("The whale is large.", { beams: 4 });
   *
   * @throws The errors of `translations`.
   */
  async translate(text: string, options?: Omit<TranslateOptions, "nBest">): Promise<string>;
  /**
   * Returns the likeliest translation of each text, in the order of the texts. The translation of an empty text is
   * empty.
   *
   * @example
   * const [whale, shark] = await model.translate(["A whale.", "A shark."]);
   *
   * @throws The errors of `translations`.
   */
  async translate(texts: readonly string[], options?: Omit<TranslateOptions, "nBest">): Promise<string[]>;
  async translate(
    texts: string | readonly string[],
    options: Omit<TranslateOptions, "nBest"> = {},
  ): Promise<string | string[]> {
    checkObject("translate", "options", options);
    const list = typeof texts === "string" ? [texts] : texts;
    const found = await this.translations(list, { ...options, nBest: 1 });
    const best = found.map(([translation]) => translation!.text);
    return typeof texts === "string" ? best[0]! : best;
  }

  /**
   * Returns the `nBest` likeliest translations of each text, in descending order of score. An empty text has one
   * translation, which is empty.
   *
   * @example
   * const [translations] = await model.translations(["The whale is large."], { beams: 4, nBest: 2 });
   * const [best, second] = translations!.map(({ text, score }) => `${text} (${score})`);
   *
   * @throws ERR_ARGUMENT or ERR_RANGE if an argument is invalid, or the model has no tokenizer.
   * @throws ERR_DIVERGED if the model diverges on a text. The other texts are translated before the call rejects with a
   * `DivergedError`, whose `results` has the outcome of every text.
   * @throws The signal's reason if it is aborted.
   */
  async translations(texts: readonly string[], options: TranslateOptions = {}): Promise<Translation[][]> {
    checkArray("translate", "texts", texts);
    const codec = needed(this.#codec);
    const sources: Int32Array[] = [];
    for (const [i, text] of texts.entries()) {
      if (typeof text !== "string")
        throw new HeedError("ERR_ARGUMENT", `translate: expected texts[${i}] to be a string, got ${describe(text)}`);
      sources.push(await codec.encode(text));
    }
    const outcomes = await translateEach(this.model, sources, options, "texts");
    const empty: Translation = { text: "", tokens: [], total: 0, score: 0, finishReason: "stop" };
    return valuesOf(
      "translate",
      "texts",
      outcomes.map((outcome) => {
        if (outcome === null) return { value: [empty], divergedAfter: null };
        const { value, divergedAfter } = outcome;
        return { value: value.map((found) => ({ ...found, text: codec.decode(found.tokens) })), divergedAfter };
      }),
    );
  }

  /**
   * Unavailable: this model does not continue texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get generate(): never {
    return ofOtherKind("generate", "causal", this.kind);
  }

  /**
   * Unavailable: this model does not answer conversations.
   *
   * @throws ERR_ARGUMENT always.
   */
  get chat(): never {
    return ofOtherKind("chat", "causal", this.kind);
  }

  /**
   * Unavailable: this model does not turn texts into vectors.
   *
   * @throws ERR_ARGUMENT always.
   */
  get embed(): never {
    return ofOtherKind("embed", "encoder", this.kind);
  }

  /**
   * Unavailable: this model does not classify texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get classify(): never {
    return ofOtherKind("classify", "classifier", this.kind);
  }

  /**
   * Unavailable: this model does not rank documents.
   *
   * @throws ERR_ARGUMENT always.
   */
  get rank(): never {
    return ofOtherKind("rank", "classifier", this.kind);
  }
}
