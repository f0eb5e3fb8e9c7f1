import { noGrad } from "../autograd.js";
import type { Device } from "../device.js";
import { HeedError } from "../errors.js";
import type { Module } from "../nn/module.js";
import { scope } from "../scope.js";
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
 * batches it is 0, if `allowNone` is true.
 *
 * @throws ERR_ARGUMENT if there are no batches; the signal's reason if it is aborted; what the task throws.
 */
export async function meanLoss<M extends Module, B>(
  model: M,
  task: Task<M, B>,
  batches: Iterable<B> | AsyncIterable<B>,
  {
    device,
    signal,
    limit = Infinity,
    allowNone = false,
  }: { device: Device; signal?: AbortSignal | undefined; limit?: number; allowNone?: boolean },
): Promise<MeanLoss> {
  const pending: { targets: number; loss: Promise<Float32Array> }[] = [];
  let [sum, seen] = [0, 0];
  const settle = async (): Promise<void> => {
    const { targets, loss } = pending.shift()!;
    sum += targets * (await loss)[0]!;
    seen += targets;
  };
  let microBatch = 0;
  for await (const batch of batches) {
    signal?.throwIfAborted();
    const context: TaskContext = { device, microBatch, training: false };
    pending.push({ targets: task.targets?.(batch, context) ?? 1, loss: lossOf(model, task, batch, context) });
    if (pending.length > ahead) await settle();
    if (++microBatch >= limit) break;
  }
  if (microBatch === 0 && !allowNone)
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
