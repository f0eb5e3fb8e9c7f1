// The class that `load` returns for classifiers: labels of texts and pairs of texts, and documents in the order in which
// they match a query.
import { checkArray, checkInteger, checkObject } from "../util/check.js";
import { type ClassificationRecipe, type ClassifyOptions, logitsOfTexts, scoresOf } from "../embed/classification.js";
import type { TextPair } from "../embed/encode-texts.js";
import { describe, HeedError } from "../util/errors.js";
import type { TextClassifier } from "../models/encoder.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { Loaded, needed, ofOtherKind } from "./loaded.js";

/** Parts of a `ClassifierModel`. */
export interface ClassifierModelParts {
  /** The classifier. The `ClassifierModel` owns it and disposes it. */
  model: TextClassifier;
  /** Tokenizer of the model. Without one (null), the model cannot classify texts. */
  tokenizer: Tokenizer | null;
  /** Functions that turn the model's logits into scores. @default null */
  recipe?: ClassificationRecipe | null;
}

/** A label of a text. */
export interface LabelScore {
  /** Name of the label. */
  label: string;
  /** Probability of the label, from 0 to 1; if the model was trained for regression, its value. */
  score: number;
}

/** A document that was compared with a query. */
export interface RankedDocument {
  /** Index of the document in the list that was passed. */
  index: number;
  /** Number that is greater the better the document matches the query. Its range depends on the model. */
  score: number;
}

/** Options of `ClassifierModel.rank`. */
export interface RankOptions extends ClassifyOptions {
  /** Number of documents to return. @default all of them */
  top?: number;
}

/**
 * A model that classifies texts, with its tokenizer. If it has a single label, it can rank documents, as the
 * cross-encoders of sentence-transformers do.
 *
 * @example
 * // This downloads a model.
 * using model = await load("cross-encoder/ms-marco-MiniLM-L6-v2", { kind: "classifier" });
 * const [best] = await model.rank("How long is a blue whale?", ["A blue whale is 30 m long.", "Cats purr."]);
 */
export class ClassifierModel extends Loaded<TextClassifier> {
  /** Kind of the model. */
  readonly kind = "classifier";
  /** Functions that turn logits into scores, as far as the model's files specify them. */
  readonly recipe: ClassificationRecipe;
  readonly #tokenizer: Tokenizer | null;

  /** Combines a model with its tokenizer. `load` does this for published and saved models. */
  constructor({ model, tokenizer, recipe = null }: ClassifierModelParts) {
    super(model);
    this.recipe = recipe ?? {};
    this.#tokenizer = tokenizer;
  }

  /**
   * Tokenizer of the model.
   *
   * @throws ERR_ARGUMENT if the model has no tokenizer and `load` was given none.
   */
  get tokenizer(): Tokenizer {
    return needed(this.#tokenizer);
  }

  /**
   * Returns all labels of each text with their scores, the likeliest first. An element of `texts` is a text, its tokens
   * with the special ones, or a pair of texts for a model that compares two, such as a premise and a hypothesis. Texts of
   * similar length share a batch, also those of other calls that run at the same time.
   *
   * @example
   * const [labels] = await model.classify(["What a wonderful whale!"]);
   * console.log(labels![0]); // such as { label: "POSITIVE", score: 0.99 }
   * const [relation] = await model.classify([["A whale breaches.", "An animal is moving."]]);
   *
   * @throws ERR_ARGUMENT or ERR_RANGE if an argument is invalid, or the model has no tokenizer.
   * @throws The signal's reason if it is aborted.
   */
  async classify(
    texts: readonly (string | TextPair | Int32Array)[],
    options: ClassifyOptions = {},
  ): Promise<LabelScore[][]> {
    checkObject("classify", "options", options);
    const { labels } = this.model;
    const { classify = labels.length === 1 ? "sigmoid" : "softmax" } = this.recipe;
    const logits = await logitsOfTexts("classify", this.model, this.tokenizer, texts, options);
    return logits.map((row) =>
      scoresOf(row, classify)
        .map((score, i) => ({ label: labels[i]!, score }))
        .sort((a, b) => b.score - a.score),
    );
  }

  /**
   * Returns the documents in the order in which they match a query, the best first, by their indices in `documents`.
   * Each document is read together with the query, which is slower than comparing vectors and more exact. Use it to put
   * the best results of a search in order.
   *
   * @example
   * const documents = ["A blue whale is 30 m long.", "Cats purr."];
   * const [best] = await model.rank("How long is a blue whale?", documents, { top: 1 });
   * console.log(documents[best!.index], best!.score);
   *
   * @throws ERR_ARGUMENT if the model has several labels or no tokenizer, or an argument has a wrong type.
   * @throws ERR_RANGE if `top`, `batchSize` or `maxLength` is out of range.
   * @throws The signal's reason if it is aborted.
   */
  async rank(query: string, documents: readonly string[], options: RankOptions = {}): Promise<RankedDocument[]> {
    const op = "rank";
    checkObject(op, "options", options);
    const { top = documents.length, ...others } = options;
    const { labels } = this.model;
    if (labels.length !== 1)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected a model with a single label, got one with ${labels.length}`);
    checkString(op, "query", query);
    checkArray(op, "documents", documents);
    for (const [i, document] of documents.entries()) checkString(op, `documents[${i}]`, document);
    if (options.top !== undefined) checkInteger(op, "top", top, 1);
    const pairs = documents.map((document): TextPair => [query, document]);
    const logits = await logitsOfTexts(op, this.model, this.tokenizer, pairs, others);
    const { rank = "sigmoid" } = this.recipe;
    // Sorting by logits keeps apart what a sigmoid rounds to the same score.
    return logits
      .map((row, index) => ({ index, row }))
      .sort((a, b) => b.row[0]! - a.row[0]!)
      .slice(0, top)
      .map(({ index, row }) => ({ index, score: scoresOf(row, rank)[0]! }));
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
   * Unavailable: this model does not translate texts.
   *
   * @throws ERR_ARGUMENT always.
   */
  get translate(): never {
    return ofOtherKind("translate", "encoder-decoder", this.kind);
  }
}

function checkString(op: string, name: string, value: unknown): void {
  if (typeof value !== "string")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be a string, got ${describe(value)}`);
}
