import type { FloatTensor } from "../core/tensor.js";
import type { Part } from "./shards.js";

/** Parameter with its state in the optimiser. */
export interface Entry {
  readonly name: string;
  readonly parameter: FloatTensor;
  readonly lrScale: number;
  readonly weightDecay: number;
  /** State tensors by kind; null until the parameter is trained for the first time, so that a frozen one has none. */
  state: Readonly<Record<string, FloatTensor>> | null;
  /** Number of steps in which it had a gradient, without skipped ones. The correction of AdamW's bias depends on it. */
  steps: number;
  /** Elements that each process updates, in order of the ranks; null if this process updates all. */
  parts: readonly Part[] | null;
}
