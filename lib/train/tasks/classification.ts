import { checkObject } from "../../util/check.js";
import { tensor } from "../../core/creation.js";
import { HeedError } from "../../util/errors.js";
import type { Module } from "../../nn/module.js";
import type { FloatTensor, IntTensor } from "../../core/tensor.js";
import type { Task } from "../task.js";
import { type Ids, padded } from "./padded.js";

/** Texts with their classes. */
export interface LabelledTexts {
  /** Ids of each text, with the special tokens that the model expects, B of them. */
  ids: readonly Ids[];
  /** Number of each text's class, B of them. */
  labels: ArrayLike<number>;
}

/** Model that classifies texts, such as `BertForSequenceClassification`. */
export interface ClassifyingModel extends Module {
  /** Returns the mean cross-entropy of labels i32 [B], given ids i32 [B, T] of which keyLengths i32 [B] are real. */
  loss(ids: IntTensor, labels: IntTensor, options: { keyLengths: IntTensor }): FloatTensor;
}

/**
 * Returns the task of classifying texts, in batches of ids with their labels. Texts are padded to the longest of their
 * batch.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 100, contextLength: 16, layers: 1, heads: 2, width: 16 });
 * const model = new BertForSequenceClassification(bert, { labels: ["bad", "good"] });
 * const data = [{ ids: [[7, 8, 9], [5, 6]], labels: [0, 1] }];
 * using trainer = new TaskTrainer({ model, task: classification(), data, steps: 2 });
 */
export function classification(): Task<ClassifyingModel, LabelledTexts> {
  const op = "classification";
  return {
    loss(model, batch, { device }) {
      checkObject(op, "the batch", batch);
      const { ids, lengths, shape } = padded(op, batch.ids);
      if (batch.labels.length !== shape[0])
        throw new HeedError("ERR_SHAPE", `${op}: expected ${shape[0]} labels, got ${batch.labels.length}`);
      const labels = tensor(Int32Array.from(batch.labels), [shape[0]], { device });
      return model.loss(tensor(ids, shape, { device }), labels, {
        keyLengths: tensor(lengths, [shape[0]], { device }),
      });
    },
    targets: ({ labels }) => labels.length,
    tokens: ({ ids }) => ids.reduce((sum, { length }) => sum + length, 0),
  };
}
