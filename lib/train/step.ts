// What the loop of a training run knows about a step on its way through the device.
import type { FloatTensor } from "../core/tensor.js";
import type { TaskContext } from "./task.js";

/** Step whose update is enqueued on the device and whose result has not been read. */
export interface PendingStep {
  step: number;
  lr: number;
  loss: number;
  tokens: number;
  epoch: number;
  lossScale: number | null;
  /** Global norm of the gradients, which tells whether the update was skipped; null without clipping. */
  gradientNorm: Promise<number | null>;
}

/** Micro-batches of a step in this process, with the numbers of all processes. */
export interface Micro<B> {
  batches: readonly B[];
  /** Number of targets of each. */
  counts: readonly number[];
  contexts: readonly TaskContext[];
  /** Number of targets in all processes, at least 1. */
  total: number;
  /** Number of tokens in all processes. */
  tokens: number;
}

/** Loss of a step whose backward pass is enqueued. */
export interface Differentiated {
  loss: Promise<number>;
  /** Parameters that got no gradient in this process. */
  missing: readonly FloatTensor[];
}

/**
 * Returns a promise that is awaited one step later, or never if the run ends before. Its rejection alone must not end
 * the process.
 */
export function unawaited<T>(read: Promise<T>): Promise<T> {
  read.catch(() => undefined);
  return read;
}

/** Returns true if the norm of a step's gradients tells that the step changed nothing; null without clipping. */
export function isSkipped(gradientNorm: number | null | undefined): boolean {
  return typeof gradientNorm === "number" && !Number.isFinite(gradientNorm);
}
