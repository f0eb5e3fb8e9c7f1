import { checkBoolean, checkNumber, checkObject } from "../../util/check.js";
import { tensor } from "../../core/creation.js";
import type { Device } from "../../core/device.js";
import { HeedError } from "../../util/errors.js";
import type { Module } from "../../nn/module.js";
import { checkPooling, pool, type Pooling } from "../../nn/pooling.js";
import { add, mul } from "../../ops/binary.js";
import { crossEntropy } from "../../ops/cross-entropy.js";
import { l2Normalize } from "../../ops/l2-normalize.js";
import { matmul } from "../../ops/matmul.js";
import { narrow, transpose } from "../../ops/views.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor, IntTensor } from "../../core/tensor.js";
import type { Task } from "../task.js";
import { type Ids, padded } from "./padded.js";

/** Texts that belong together, and perhaps some that do not. */
export interface ContrastivePairs {
  /** Ids of the first text of each pair, B of them. */
  queries: readonly Ids[];
  /** Ids of the second text of each pair, B of them. */
  documents: readonly Ids[];
  /** Ids of texts that belong to none of the queries ("hard negatives"), any number of them. @default [] */
  negatives?: readonly Ids[];
}

/** Options of `contrastive`. */
export interface ContrastiveOptions {
  /** Way to make one vector of the states of a text's tokens. @default "mean" */
  pooling?: Pooling;
  /** Temperature τ, by which the cosines are divided. @default 0.05 */
  temperature?: number;
  /** True if documents must find their queries as well. @default false */
  symmetric?: boolean;
}

/** Model that computes a state for every token, such as a `Bert`. */
export interface EncodingModel extends Module {
  /** Returns the states [B, T, C] of ids i32 [B, T], of which keyLengths i32 [B] are real. */
  forward(ids: IntTensor, options: { keyLengths: IntTensor }): FloatTensor;
}

/**
 * Returns the task of learning vectors of texts from pairs that belong together: the loss is InfoNCE, −log of the softmax
 * of cos(q, d)/τ at the query's own document, among all documents and negatives of the batch. The larger the batch, the
 * more it has to tell apart.
 *
 * @example
 * const model = new Bert({ vocabularySize: 100, contextLength: 16, layers: 1, heads: 2, width: 16 });
 * const data = [{ queries: [[7, 8, 9], [5, 6]], documents: [[17, 18], [15, 16, 14]] }];
 * using trainer = new TaskTrainer({ model, task: contrastive(), data, steps: 2 });
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid.
 * @see van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", arXiv:1807.03748; Gao et
 *   al. 2021, "SimCSE", arXiv:2104.08821.
 */
export function contrastive(options: ContrastiveOptions = {}): Task<EncodingModel, ContrastivePairs> {
  const op = "contrastive";
  checkObject(op, "options", options);
  const { pooling = "mean", temperature = 0.05, symmetric = false } = options;
  checkPooling(op, pooling);
  checkNumber(op, "temperature", temperature, Number.EPSILON, Number.MAX_VALUE);
  checkBoolean(op, "symmetric", symmetric);
  /** Returns unit vectors of texts, f32 [N, C]. */
  const vectors = (model: EncodingModel, texts: readonly Ids[], device: Device): FloatTensor => {
    const { ids, lengths, shape } = padded(op, texts);
    const keyLengths = tensor(lengths, [shape[0]], { device });
    return l2Normalize(pool(model.forward(tensor(ids, shape, { device }), { keyLengths }), lengths, pooling));
  };
  return {
    loss(model, batch, { device }) {
      checkObject(op, "the batch", batch);
      const { queries, documents, negatives = [] } = batch;
      const count = queries.length;
      if (documents.length !== count)
        throw new HeedError("ERR_SHAPE", `${op}: expected ${count} documents, got ${documents.length}`);
      return scope(() => {
        const q = vectors(model, queries, device); // [B, C]
        const d = vectors(model, [...documents, ...negatives], device); // [B + N, C]
        const own = tensor(
          Int32Array.from({ length: count }, (_, i) => i),
          [count],
          { device },
        );
        const scores = mul(matmul(q, transpose(d)), 1 / temperature); // [B, B + N]
        const found = crossEntropy(scores, own);
        if (!symmetric) return found;
        return mul(add(found, crossEntropy(transpose(narrow(scores, 1, 0, count)), own)), 0.5);
      });
    },
    targets: ({ queries }) => queries.length,
    tokens: ({ queries, documents, negatives = [] }) =>
      [...queries, ...documents, ...negatives].reduce((sum, { length }) => sum + length, 0),
  };
}
