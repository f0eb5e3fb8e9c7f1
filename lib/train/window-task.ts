import { batchLoss, countedTargets } from "./batch-loss.js";
import type { Batch } from "./batches.js";
import type { Task } from "./task.js";
import type { TrainableModel } from "./trainable-model.js";

/**
 * Returns the task of predicting the next token in windows of T tokens. `documentStart` is the token that begins a
 * document, or null.
 */
export function windowTask(contextLength: number, documentStart: number | null): Task<TrainableModel, Batch> {
  return {
    loss: (model, batch) =>
      batchLoss(model, batch, [batch.inputs.length / contextLength, contextLength], documentStart),
    targets: countedTargets,
    tokens: ({ inputs }) => inputs.length,
  };
}
