import { checkArray, checkObject } from "../check.js";
import { describe, HeedError } from "../errors.js";
import type { Hypothesis } from "../generate/beam.js";
import { valuesOf } from "../generate/diverged.js";
import { type TranslateOptions, translateEach } from "../generate/translate.js";
import type { EncoderDecoder } from "../models/encoder-decoder.js";
import type { T5 } from "../models/t5.js";
import type { TextCodec } from "../pretrained/load-model.js";
import { Loaded, needed, ofOtherKind } from "./loaded.js";

export interface TranslatorParts {
  model: EncoderDecoder | T5;
  codec: TextCodec | null;
}

/** One of the likeliest translations of a text. */
export interface Translation extends Hypothesis {
  text: string;
}

/** A model that makes one text of another. */
export class Translator extends Loaded<EncoderDecoder | T5> {
  readonly kind = "encoder-decoder";
  readonly #codec: TextCodec | null;

  constructor({ model, codec }: TranslatorParts) {
    super(model);
    this.#codec = codec;
  }

  /**
   * Resolves to a source's tokens; an empty text has none.
   *
   * @throws ERR_ARGUMENT where the model has no tokenizer and none was given.
   */
  async encode(text: string): Promise<Int32Array> {
    return needed(this.#codec).encode(text);
  }

  /**
   * Returns the text of a target's tokens.
   *
   * @throws ERR_ARGUMENT where the model has no tokenizer and none was given.
   */
  decode(tokens: readonly number[]): string {
    return needed(this.#codec).decode(tokens);
  }

  /**
   * Resolves to the likeliest translation of a text, or of each of several. That of an empty text is empty.
   *
   * @example
   * const english = await model.translate("آزا");
   *
   * @throws as `translations` does.
   */
  async translate(text: string, options?: Omit<TranslateOptions, "nBest">): Promise<string>;
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
   * Resolves to the `nBest` likeliest translations of each text, in falling order of score. An empty text has one, which is
   * empty.
   *
   * @throws ERR_ARGUMENT or ERR_RANGE for a bad argument; rejects with the signal's reason. Where the model diverges on a
   * text, the others are translated to their end; then it rejects with a `DivergedError` (ERR_DIVERGED), whose `results` are
   * those of all texts.
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

  get generate(): never {
    return ofOtherKind("generate", "causal", this.kind);
  }

  get chat(): never {
    return ofOtherKind("chat", "causal", this.kind);
  }

  get embed(): never {
    return ofOtherKind("embed", "encoder", this.kind);
  }
}
