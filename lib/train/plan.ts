import type { Device } from "../core/device.js";
import type { DistributedOptions } from "../distributed/options.js";
import type { Module } from "../nn/module.js";
import type { Feed } from "./feed.js";
import type { Task } from "./task.js";
import type { TrainingOptions, TrainingSettings } from "./training-options.js";

/** Everything that a trainer is made of, after all options were checked. */
export interface Plan<M extends Module, B> {
  /** Name of the trainer in messages. */
  op: string;
  model: M;
  device: Device;
  task: Task<M, B>;
  feed: Feed<B>;
  /** Returns the batches of an evaluation; null if there is none. */
  validation: (() => Iterable<B> | AsyncIterable<B>) | null;
  /** Data to train on and held-out data, as the caller gave them. */
  data: unknown;
  held: unknown;
  /** Sizes into which the trainer cuts the data. */
  cut: Readonly<Record<string, number | boolean | null>>;
  settings: TrainingSettings;
  options: TrainingOptions<M>;
  /** Options of processes that train together; null in a run of one process. */
  distributed: Required<DistributedOptions> | null;
  /** Floating-point operations per token; null if they are unknown. */
  flopsPerToken: number | null;
}
