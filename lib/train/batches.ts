import { HeedError } from "../errors.js";
import { Permutation } from "../permutation.js";
import type { TokenSource } from "./token-data.js";

export interface BatchOptions {
  /** B: windows a batch. */
  batchSize: number;
  /** T: tokens a window. */
  contextLength: number;
  /** An integer of at least 0; other seeds, other orders. */
  seed?: number;
  /** false: windows in the order of the source, for validation. */
  shuffle?: boolean;
}

/** Inputs [B, T] and, a token further on, targets [B, T]. */
export interface Batch {
  inputs: Int32Array;
  targets: Int32Array;
}

/**
 * Batches of windows of a source. Windows stand side by side, the target of a window's last token being the first of the
 * next; a rest that fills no window is left out. Each epoch takes every window exactly once, in an order of its own, and
 * epochs follow each other without a gap, also inside a batch. `batch(step)` depends on the seed and the step alone:
 * training that resumes at a step sees what it would have seen.
 */
export class Batches {
  readonly batchSize: number;
  readonly contextLength: number;
  /** Windows an epoch. */
  readonly windows: number;
  private readonly seed: number;
  private readonly shuffle: boolean;
  private permutation: { epoch: number; order: Permutation } | undefined;

  /** Throws ERR_RANGE for sizes that are not positive integers or a source without a whole window. */
  constructor(
    private readonly source: TokenSource,
    { batchSize, contextLength, seed = 0, shuffle = true }: BatchOptions,
  ) {
    for (const [name, size] of Object.entries({ batchSize, contextLength }))
      if (!Number.isSafeInteger(size) || size < 1)
        throw new HeedError("ERR_RANGE", `Batches: expected ${name} to be an integer of at least 1, got ${size}`);
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new HeedError("ERR_RANGE", `Batches: expected seed to be an integer of at least 0, got ${seed}`);
    if (source.length < contextLength + 1)
      throw new HeedError(
        "ERR_RANGE",
        `Batches: expected at least ${contextLength + 1} tokens for a window of contextLength ${contextLength} and its targets, got ${source.length}`,
      );
    this.batchSize = batchSize;
    this.contextLength = contextLength;
    this.seed = seed;
    this.shuffle = shuffle;
    this.windows = Math.floor((source.length - 1) / contextLength);
  }

  /** Batches that an epoch fills. */
  get batchesPerEpoch(): number {
    return Math.floor(this.windows / this.batchSize);
  }

  /** The epoch of the first window of a step's batch. */
  epoch(step: number): number {
    return Math.floor((step * this.batchSize) / this.windows);
  }

  /** The batch of a step, counted from 0. Throws ERR_RANGE for a step that is not an integer of at least 0. */
  batch(step: number): Batch {
    if (!Number.isSafeInteger(step) || step < 0 || !Number.isSafeInteger((step + 1) * this.batchSize))
      throw new HeedError("ERR_RANGE", `Batches: expected a step of at least 0, got ${step}`);
    return this.take(step * this.batchSize, this.batchSize);
  }

  /**
   * `count` windows from the `first`-th of all epochs on, counted from 0: what comes after as many windows, whatever the
   * size of the batches was that they came in. Throws ERR_RANGE for what is not an integer of at least 0.
   */
  take(first: number, count: number): Batch {
    const T = this.contextLength;
    if (!Number.isSafeInteger(first) || first < 0 || !Number.isSafeInteger(first + count))
      throw new HeedError("ERR_RANGE", `Batches: expected a first window of at least 0, got ${first}`);
    const inputs = new Int32Array(count * T);
    const targets = new Int32Array(count * T);
    const window = new Int32Array(T + 1);
    for (let b = 0; b < count; b++) {
      this.source.read(this.windowOf(first + b) * T, T + 1, window);
      inputs.set(window.subarray(0, T), b * T);
      targets.set(window.subarray(1), b * T);
    }
    return { inputs, targets };
  }

  /** The window that is seen as the `count`-th of all epochs. */
  private windowOf(count: number): number {
    const position = count % this.windows;
    if (!this.shuffle) return position;
    const epoch = (count - position) / this.windows;
    if (this.permutation?.epoch !== epoch)
      this.permutation = { epoch, order: new Permutation(this.windows, this.seed, epoch) };
    return this.permutation.order.at(position);
  }
}
