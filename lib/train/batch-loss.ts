import { tensor } from "../creation.js";
import type { FloatTensor } from "../tensor.js";
import type { Batch } from "./batches.js";
import { documentsOf } from "./documents.js";
import { ignored } from "./sequence-source.js";
import type { TrainableModel } from "./trainable-model.js";

/**
 * Returns a model's loss on a batch of `shape` [B, T]. Documents are those of the batch, or begin with the token
 * `start`; if there are neither, each sequence is one document.
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
  const documents = batch.documents ?? (start === null ? null : documentsOf(batch, shape[0], start));
  return documents ? model.loss(ids, targets, { documents }) : model.loss(ids, targets);
}

/** Returns the number of targets that count for a batch's loss. */
export function countedTargets({ targets }: Batch): number {
  let count = 0;
  for (const target of targets) if (target !== ignored) count++;
  return count;
}
