import { batchLoss, countedTargets } from "./batch-loss.js";
import type { Batch } from "../data/batches.js";
import type { Task } from "./task.js";
import type { TrainableModel } from "./trainable-model.js";

/** Returns the task of predicting the next token in sequences of T tokens. */
export function windowTask(contextLength: number): Task<TrainableModel, Batch> {
  return {
    loss: (model, batch) => batchLoss(model, batch, [batch.inputs.length / contextLength, contextLength]),
    targets: countedTargets,
    tokens: ({ inputs }) => inputs.length,
  };
}
