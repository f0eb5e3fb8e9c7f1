import { noGrad } from "../core/autograd.js";
import type { Device } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import type { Module } from "../nn/module.js";
import { scope } from "../core/scope.js";
import { alone, type Share } from "./feed.js";
import type { Task, TaskContext } from "./task.js";

/** Number of batches that are enqueued before the first result is read, so that the device never waits. */
const ahead = 2;

/** Mean loss of batches, and what it is the mean of. */
export interface MeanLoss {
  /** Mean over all targets. */
  loss: number;
  /** Number of targets. */
  targets: number;
}

/**
 * Resolves to the mean loss of a model over all targets of the batches, with dropout off and without recording. Without
 * targets it is 0. `batches` are those of one process, of which all take turns; one of several may have none.
 *
 * @throws ERR_ARGUMENT if there are no batches; the signal's reason if it is aborted; what the task throws.
 */
export async function meanLoss<M extends Module, B>(
  model: M,
  task: Task<M, B>,
  batches: Iterable<B> | AsyncIterable<B>,
  { device, signal, share = alone }: { device: Device; signal?: AbortSignal | undefined; share?: Share },
): Promise<MeanLoss> {
  const pending: { targets: number; loss: Promise<Float32Array> }[] = [];
  let [sum, seen] = [0, 0];
  const settle = async (): Promise<void> => {
    const { targets, loss } = pending.shift()!;
    const mean = (await loss)[0]!;
    // A mean over no targets may be NaN.
    if (targets > 0) sum += targets * mean;
    seen += targets;
  };
  let count = 0;
  for await (const batch of batches) {
    signal?.throwIfAborted();
    // Random choices of a task do not depend on the number of processes.
    const microBatch = count++ * share.size + share.rank;
    const context: TaskContext = { device, microBatch, training: false };
    pending.push({ targets: task.targets?.(batch, context) ?? 1, loss: lossOf(model, task, batch, context) });
    if (pending.length > ahead) await settle();
  }
  if (count === 0 && share.size === 1)
    throw new HeedError(
      "ERR_ARGUMENT",
      "validation: expected at least one batch, got none; pass data that can be iterated again, such as an array or a function that returns an iterable",
    );
  while (pending.length > 0) {
    signal?.throwIfAborted();
    await settle();
  }
  return { loss: seen === 0 ? 0 : sum / seen, targets: seen };
}

function lossOf<M extends Module, B>(
  model: M,
  task: Task<M, B>,
  batch: B,
  context: TaskContext,
): Promise<Float32Array> {
  const { training } = model;
  let loss: Promise<Float32Array> | undefined;
  if (training) model.eval();
  try {
    noGrad(() =>
      scope(() => {
        loss = task.loss(model, batch, context).data();
      }),
    );
  } finally {
    if (training) model.train();
  }
  // If an earlier batch fails, this promise is never awaited, and its own failure must not end the process.
  loss!.catch(() => undefined);
  return loss!;
}
