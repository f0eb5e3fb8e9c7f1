import { tensor } from "../creation.js";
import type { FloatTensor } from "../tensor.js";
import type { Batch } from "./batches.js";
import { documentsOf } from "./documents.js";
import type { TrainableModel } from "./trainable-model.js";

/**
 * Returns a model's loss on a batch of `shape` [B, T]. Each token `start` begins a document; if `start` is null, each
 * sequence is one document.
 */
export function batchLoss(
  model: TrainableModel,
  batch: Batch,
  shape: readonly [number, number],
  start: number | null,
): FloatTensor {
  const { device } = model;
  const ids = tensor(batch.inputs, shape, { device });
  const targets = tensor(batch.targets, shape, { device });
  return start === null
    ? model.loss(ids, targets)
    : model.loss(ids, targets, { documents: documentsOf(batch, shape[0], start) });
}
