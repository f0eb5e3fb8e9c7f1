import type { Device } from "../core/device.js";
import type { Module } from "../nn/module.js";
import type { FloatTensor } from "../core/tensor.js";

/** Circumstances in which a task computes a loss. */
export interface TaskContext {
  /** Device of the model, on which tensors are to be made. */
  readonly device: Device;
  /**
   * Number of the micro-batch among those of all processes, counted from 0: over the whole run in training, over one
   * evaluation otherwise. Random choices that follow from it are the same when a run resumes, and with any number of
   * processes.
   */
  readonly microBatch: number;
  /** True in training, false in an evaluation. */
  readonly training: boolean;
}

/**
 * Task that a model learns: the computation of the loss of a batch. heed's tasks are `languageModelling`, `preferences`,
 * `classification`, `maskedWords`, `sequenceToSequence` and `contrastive`.
 *
 * @example
 * const regression: Task<Module & { forward: (x: FloatTensor) => FloatTensor }, { x: number[]; y: number[] }> = {
 *   loss: (model, { x, y }, { device }) =>
 *     mean(square(sub(model.forward(tensor(x, [x.length, 1], { device })), tensor(y, [y.length, 1], { device })))),
 *   targets: ({ y }) => y.length,
 * };
 */
export interface Task<in M extends Module = Module, in B = never> {
  /**
   * Returns the loss of a batch, f32 []: the mean over its targets. It only enqueues work and must not be asynchronous.
   * Tensors that it makes are disposed afterwards.
   */
  loss(model: M, batch: B, context: TaskContext): FloatTensor;
  /**
   * Returns the number of targets of which `loss` is the mean. The micro-batches of a step, and the batches of an
   * evaluation, count by their targets.
   * @default 1 for every batch
   */
  targets?(batch: B, context: TaskContext): number;
  /** Returns the number of tokens in a batch, for the speed in the events. @default the number of targets */
  tokens?(batch: B): number;
}

/** Function that is a whole task: it returns the loss of a batch, as `Task.loss` does. */
export type LossFunction<in M extends Module, in B> = (model: M, batch: B, context: TaskContext) => FloatTensor;
