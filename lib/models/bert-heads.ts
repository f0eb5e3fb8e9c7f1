// Task heads on top of a BERT: masked language modelling, its pretraining task, and the classification of texts.
import { HeedError } from "../util/errors.js";
import { Dropout } from "../nn/dropout.js";
import { Initializer } from "../nn/init.js";
import { LayerNorm } from "../nn/layer-norm.js";
import { Linear } from "../nn/linear.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import type { Activation } from "../ops/activation.js";
import { checkInteger, checkNumber, checkObject, checkShapeIs, checkTensor, describe } from "../ops/check.js";
import { crossEntropy, type CrossEntropyOptions } from "../ops/cross-entropy.js";
import { embedding } from "../ops/embedding.js";
import { relu, tanh } from "../ops/unary.js";
import { reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { Bert, firstTokens } from "./bert.js";
import { isRoberta } from "./bert-config.js";
import {
  type EncoderForwardOptions,
  MaskedLanguageModel,
  type MaskedForwardOptions,
  TextClassifier,
} from "./encoder.js";

/** Checks that a head is put on a BERT. */
function checkBert(op: string, bert: Bert): void {
  if (!(bert instanceof Bert))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected bert to be a Bert, got ${describe(bert)}`);
}

/** Returns an initializer for a head's parameters, with the encoder's device and dtype. */
function initializerOf(bert: Bert, seed: number): Initializer {
  return new Initializer(seed, bert.device, bert.embeddings.word_embeddings.weight.modelDType);
}

/**
 * Encoder with a head that predicts the token at every position: BERT's pretraining task, without the prediction of the
 * next sentence.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 100, contextLength: 16, layers: 2, heads: 2, width: 16 });
 * const model = new BertForMaskedLM(bert);
 * const { ids, positions, targets } = maskTokens([5, 17, 31, 8], { maskToken: 4, vocabularySize: 100, seed: 1 });
 * const loss = model.loss(tensor(ids, [1, 4]), tensor(targets), { positions: tensor(positions) });
 */
export class BertForMaskedLM extends MaskedLanguageModel {
  readonly bert: Bert;
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  /** Bias of the logits, [V]. The token embedding is the output projection. */
  readonly bias: FloatTensor;
  /** Activation of the dense layer: the encoder's, except that RoBERTa's head always has the exact GELU. */
  readonly activation: Activation;

  constructor(bert: Bert, options: { seed?: number } = {}) {
    super();
    checkBert("BertForMaskedLM", bert);
    checkObject("BertForMaskedLM", "options", options);
    const { width, eps, vocabularySize, family, activation } = bert.config;
    const init = initializerOf(bert, options.seed ?? 0);
    this.bert = bert;
    this.dense = new Linear({ inputs: width, outputs: width }, init);
    this.LayerNorm = new LayerNorm({ width, eps }, init);
    this.bias = init.constant([vocabularySize], 0);
    this.activation = isRoberta(family) ? "geluErf" : activation;
  }

  get encoder(): Bert {
    return this.bert;
  }

  /** Returns the logits [B, T, V] of ids i32 [B, T], or [N, V] with `positions`. */
  forward(ids: IntTensor, options: MaskedForwardOptions = {}): FloatTensor {
    checkObject("BertForMaskedLM", "options", options);
    const { bias } = this;
    return scope(() => logitsOf(this.#states(ids, options), this.#projection, { bias }));
  }

  /** Returns the states that are projected to logits: [B, T, C], or [N, C] with `positions`. */
  #states(ids: IntTensor, options: MaskedForwardOptions): FloatTensor {
    const { positions = null, ...rest } = options;
    const { activation } = this;
    return scope(() => {
      let x = this.bert.forward(ids, rest); // [B, T, C]
      if (positions) x = embedding(positions, reshape(x, [-1, this.bert.config.width])); // [N, C]
      return this.LayerNorm.forward(this.dense.forward(x, { activation }));
    });
  }

  get #projection(): OutputProjection {
    return this.bert.embeddings.word_embeddings;
  }

  /**
   * Returns the mean cross-entropy, in nats per token, of predicting targets i32 [B, T], or [N] with `positions`.
   * Targets that equal `ignoreIndex`, by default −100, do not count.
   */
  loss(ids: IntTensor, targets: IntTensor, options: MaskedForwardOptions & CrossEntropyOptions = {}): FloatTensor {
    checkObject("BertForMaskedLM", "options", options);
    const { tokenTypes = null, keyLengths = null, observer = null, positions = null, ...rest } = options;
    const { bias } = this;
    return scope(() => {
      const states = this.#states(ids, { tokenTypes, keyLengths, observer, positions });
      return logitsLoss(states, this.#projection, targets, { ...rest, bias });
    });
  }
}

/** Options of `BertForSequenceClassification`. */
export interface ClassificationOptions {
  /**
   * Names of the classes, or their number (then named "LABEL_0", "LABEL_1", …). With one label, the logit is a score.
   */
  labels: number | readonly string[];
  /** Seed of the head's initial parameters. @default 0 */
  seed?: number;
  /** Dropout probability before the classifier. @default the encoder's `dropout` */
  dropout?: number;
}

/**
 * Encoder with a head that classifies texts by the state of their first token.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 100, contextLength: 16, layers: 2, heads: 2, width: 16 });
 * const model = new BertForSequenceClassification(bert, { labels: ["bad", "good"] });
 * const logits = model.forward(tensor([[7, 8, 9]], [1, 3], { dtype: "i32" }));
 * model.labels[await argmax(logits).item()]; // "bad" or "good"
 */
export class BertForSequenceClassification extends TextClassifier {
  readonly bert: Bert;
  /** Dense layer that takes the place of the pooler; null if the encoder's pooler is used, as in BERT itself. */
  readonly pre_classifier: Linear | null;
  readonly classifier: Linear;
  readonly dropout: Dropout;
  /** Names of the classes. */
  readonly labels: readonly string[];

  constructor(bert: Bert, options: ClassificationOptions) {
    const op = "BertForSequenceClassification";
    super();
    checkBert(op, bert);
    checkObject(op, "options", options);
    const { width, family, pooler } = bert.config;
    const { labels, seed = 0, dropout = bert.config.dropout } = options;
    const outputs = countOf(op, labels);
    checkNumber(op, "dropout", dropout, 0, 1);
    const init = initializerOf(bert, seed);
    const pooled = family === "bert" && pooler;
    this.bert = bert;
    this.pre_classifier = pooled ? null : new Linear({ inputs: width, outputs: width }, init);
    this.classifier = new Linear({ inputs: width, outputs }, init);
    // Names are made after the classifier, which fails first if the number of labels is far too large.
    this.labels = typeof labels === "object" ? [...labels] : Array.from({ length: outputs }, (_, i) => `LABEL_${i}`);
    this.dropout = new Dropout(dropout, bert.dropoutSeeds);
  }

  get encoder(): Bert {
    return this.bert;
  }

  /** @internal Names of the layers of the head, which are trained and saved with every adapter; see `addAdapter`. */
  get headLayers(): readonly string[] {
    return this.pre_classifier ? ["pre_classifier", "classifier"] : ["classifier"];
  }

  /** Returns the logits [B, labels] of ids i32 [B, T]. */
  forward(ids: IntTensor, options: EncoderForwardOptions = {}): FloatTensor {
    return scope(() => this.classifier.forward(this.dropout.forward(this.#pooled(this.bert.forward(ids, options)))));
  }

  /**
   * Returns the mean cross-entropy, in nats per text, of predicting labels i32 [B] from ids i32 [B, T].
   *
   * @throws ERR_ARGUMENT if the model has only one label.
   */
  loss(ids: IntTensor, labels: IntTensor, options: EncoderForwardOptions & CrossEntropyOptions = {}): FloatTensor {
    const op = "BertForSequenceClassification";
    checkObject(op, "options", options);
    if (this.labels.length === 1)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected at least 2 labels for a classification loss, got 1`);
    const { tokenTypes = null, keyLengths = null, observer = null, ...rest } = options;
    checkTensor(op, "ids", ids);
    checkTensor(op, "labels", labels);
    checkShapeIs(op, "labels", labels, [ids.shape[0]!]);
    return scope(() => crossEntropy(this.forward(ids, { tokenTypes, keyLengths, observer }), labels, rest));
  }

  /** Returns the vectors [B, C] that go into the classifier, from the states [B, T, C]. */
  #pooled(states: FloatTensor): FloatTensor {
    if (!this.pre_classifier) return this.bert.pooled(states);
    const { family } = this.bert.config;
    const first = firstTokens(states);
    if (family === "distilbert") return relu(this.pre_classifier.forward(first));
    return tanh(this.pre_classifier.forward(this.dropout.forward(first)));
  }
}

function countOf(op: string, labels: number | readonly string[]): number {
  if (!Array.isArray(labels)) {
    checkInteger(op, "labels", labels, 1, 2 ** 31 - 1);
    return labels as number;
  }
  if (labels.length > 0 && labels.every((label) => typeof label === "string")) return labels.length;
  throw new HeedError(
    "ERR_ARGUMENT",
    `${op}: expected labels to be a number or an array of names, got ${describe(labels)}`,
  );
}
