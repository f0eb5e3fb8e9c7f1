import { tensor } from "../core/creation.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Batch } from "../data/batches.js";
import { ignored } from "../data/sequence-source.js";
import type { TrainableModel } from "./trainable-model.js";

/**
 * Returns a model's loss on a batch of `shape` [B, T]. Tokens see only the document of the batch that they belong to.
 */
export function batchLoss(model: TrainableModel, batch: Batch, shape: readonly [number, number]): FloatTensor {
  const { device } = model;
  const ids = tensor(batch.inputs, shape, { device });
  const targets = tensor(batch.targets, shape, { device });
  const { documents = null } = batch;
  return documents ? model.loss(ids, targets, { documents }) : model.loss(ids, targets);
}

/** Returns the number of targets that count for a batch's loss. */
export function countedTargets({ targets }: Batch): number {
  let count = 0;
  for (const target of targets) if (target !== ignored) count++;
  return count;
}
