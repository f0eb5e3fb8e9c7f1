// What a BERT is trained for: its pretraining task, and classes of texts.
import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import { Initializer } from "../nn/init.js";
import { LayerNorm } from "../nn/layer-norm.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { logitsLoss, logitsOf, type OutputProjection } from "../nn/output-projection.js";
import type { Activation } from "../ops/activation.js";
import { checkInteger, checkNumber, checkObject, checkShapeIs, checkTensor, describe } from "../ops/check.js";
import { crossEntropy, type CrossEntropyOptions } from "../ops/cross-entropy.js";
import { embedding } from "../ops/embedding.js";
import { relu, tanh } from "../ops/unary.js";
import { reshape } from "../ops/views.js";
import { scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { Bert, type BertForwardOptions, firstTokens } from "./bert.js";
import { isRoberta } from "./bert-config.js";

/** What every head has: the encoder below it. */
abstract class BertHead extends Module {
  readonly bert: Bert;

  constructor(op: string, bert: Bert) {
    super();
    if (!(bert instanceof Bert))
      throw new HeedError("ERR_ARGUMENT", `${op}: expected bert to be a Bert, got ${describe(bert)}`);
    this.bert = bert;
  }

  get device(): Device {
    return this.bert.device;
  }

  /** As `Bert.dtype`. */
  get dtype(): FloatDType {
    return this.bert.dtype;
  }

  set dtype(dtype: FloatDType) {
    this.bert.dtype = dtype;
  }

  get dropoutSeeds(): DropoutSeeds {
    return this.bert.dropoutSeeds;
  }
}

/** The head's first parameters are of the encoder's dtype and device. */
function initializerOf(bert: Bert, seed: number): Initializer {
  return new Initializer(seed, bert.device, bert.embeddings.word_embeddings.weight.dtype);
}

export interface MaskedForwardOptions extends BertForwardOptions {
  /**
   * i32 [N]: where in the batch, at b·T + t, logits are wanted; all positions unless given. The vocabulary is large, and
   * few tokens are masked.
   */
  positions?: IntTensor | null;
}

/** An encoder that says what stands at every position: BERT's pretraining task, without the prediction of the next sentence. */
export class BertForMaskedLM extends BertHead {
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  /** [V]; the token embedding is the output projection. */
  readonly bias: FloatTensor;
  /** Of the dense layer: the encoder's, but RoBERTa's head has the exact GELU, whatever its encoder has. */
  readonly activation: Activation;

  constructor(bert: Bert, options: { seed?: number } = {}) {
    super("BertForMaskedLM", bert);
    checkObject("BertForMaskedLM", "options", options);
    const { width, eps, vocabularySize, family, activation } = bert.config;
    const init = initializerOf(bert, options.seed ?? 0);
    this.dense = new Linear({ inputs: width, outputs: width }, init);
    this.LayerNorm = new LayerNorm({ width, eps }, init);
    this.bias = init.constant([vocabularySize], 0);
    this.activation = isRoberta(family) ? "geluErf" : activation;
  }

  /** ids i32 [B, T] → logits [B, T, V], or [N, V] with `positions`. */
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
   * Mean cross-entropy in nats per token of predicting targets [B, T], or [N] with `positions`; targets of `ignoreIndex`
   * (−100 unless given) count for nothing.
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

export interface ClassificationOptions {
  /** The classes' names, or how many there are (then "LABEL_0", "LABEL_1", …); one for a score of the text. */
  labels: number | readonly string[];
  /** Of the head's first parameters; 0 unless given. */
  seed?: number;
  /** Before the classifier; the encoder's unless given. */
  dropout?: number;
}

/** An encoder that tells classes of texts apart, by the state of their first tokens. */
export class BertForSequenceClassification extends BertHead {
  /** In place of a pooler, which is BERT's own way; null where the pooler is used. */
  readonly pre_classifier: Linear | null;
  readonly classifier: Linear;
  readonly dropout: Dropout;
  /** The classes' names. */
  readonly labels: readonly string[];

  constructor(bert: Bert, options: ClassificationOptions) {
    const op = "BertForSequenceClassification";
    super(op, bert);
    checkObject(op, "options", options);
    const { width, family, pooler } = bert.config;
    const { labels, seed = 0, dropout = bert.config.dropout } = options;
    const outputs = countOf(op, labels);
    checkNumber(op, "dropout", dropout, 0, 1);
    const init = initializerOf(bert, seed);
    const pooled = family === "bert" && pooler;
    this.pre_classifier = pooled ? null : new Linear({ inputs: width, outputs: width }, init);
    this.classifier = new Linear({ inputs: width, outputs }, init);
    // Names of classes that the classifier has found room for.
    this.labels = typeof labels === "object" ? [...labels] : Array.from({ length: outputs }, (_, i) => `LABEL_${i}`);
    this.dropout = new Dropout(dropout, bert.dropoutSeeds);
  }

  /** ids i32 [B, T] → logits [B, labels]. */
  forward(ids: IntTensor, options: BertForwardOptions = {}): FloatTensor {
    return scope(() => this.classifier.forward(this.dropout.forward(this.#pooled(this.bert.forward(ids, options)))));
  }

  /** Mean cross-entropy in nats of the labels i32 [B]. */
  loss(ids: IntTensor, labels: IntTensor, options: BertForwardOptions & CrossEntropyOptions = {}): FloatTensor {
    const op = "BertForSequenceClassification";
    checkObject(op, "options", options);
    if (this.labels.length === 1)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected at least 2 labels for a loss of classes, got 1`);
    const { tokenTypes = null, keyLengths = null, observer = null, ...rest } = options;
    checkTensor(op, "ids", ids);
    checkTensor(op, "labels", labels);
    checkShapeIs(op, "labels", labels, [ids.shape[0]!]);
    return scope(() => crossEntropy(this.forward(ids, { tokenTypes, keyLengths, observer }), labels, rest));
  }

  /** States [B, T, C] → [B, C] */
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
  throw new HeedError("ERR_ARGUMENT", `${op}: expected labels to be a number or names, got ${describe(labels)}`);
}
