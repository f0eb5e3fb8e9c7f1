import { tensor } from "../creation.js";
import type { FloatTensor } from "../tensor.js";
import type { Batch } from "./batches.js";
import { documentsOf } from "./documents.js";
import type { TrainableModel } from "./trainable-model.js";

/** The loss of a batch [B, T], whose documents begin with the token `start`; null where sequences are one each. */
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
