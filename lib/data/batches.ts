import { HeedError } from "../util/errors.js";
import { orderOf, type OrderVersion, orderVersion, Permutation } from "../util/permutation.js";
import { documentsIn } from "./documents.js";
import { type SequenceSource, type TrainingSequence, windowsOf } from "./sequence-source.js";
import type { TokenSource } from "./token-data.js";

/** Options of `Batches`. */
export interface BatchOptions {
  /** B, the number of windows in a batch. */
  batchSize: number;
  /** T, the number of tokens in a window. */
  contextLength: number;
  /** Seed of the order of the windows, an integer of at least 0. @default 0 */
  seed?: number;
  /** True if windows are shuffled, false if they come in the order of the source, as for validation. @default true */
  shuffle?: boolean;
  /**
   * Id that begins a document in the windows of a stream: the lengths of the documents are then part of each batch.
   * Sequences that know their own documents keep them.
   * @default null (each window is one document)
   */
  documentStart?: number | null;
  /** @internal Version of the orders, for a run that began with another one. */
  version?: OrderVersion;
}

/** Batch of windows with the tokens to predict. */
export interface Batch {
  /** Ids of the windows, [B, T], one window after the other. */
  inputs: Int32Array;
  /** Id that follows each input, [B, T]; −100 where the loss does not count. */
  targets: Int32Array;
  /**
   * Lengths of the documents that each sequence is packed from, which do not see each other; null if every sequence of
   * the batch is one document.
   */
  documents?: readonly (readonly number[])[] | null;
}

/**
 * Batches of windows of a token source. Windows lie side by side: the target of a window's last token is the first
 * token of the next window. A rest at the end that does not fill a window is left out. Each epoch takes every window
 * exactly once, in its own order, and the next epoch follows at once, even within a batch. `batch(step)` depends only
 * on the seed and the step, so that a run that resumes at a step sees the same data. If the source has sequences of its
 * own (`packExamples`), they take the place of windows.
 *
 * @example
 * const data = tokenData(tokenizer.encode("to be or not to be"));
 * const batches = new Batches(data, { batchSize: 2, contextLength: 4 });
 * batches.windows; // 4
 * const { inputs, targets } = batches.batch(0); // two windows of 4 ids each
 */
export class Batches {
  readonly batchSize: number;
  readonly contextLength: number;
  /** Number of windows in an epoch. */
  readonly windows: number;
  private readonly seed: number;
  private readonly shuffle: boolean;
  private readonly documentStart: number | null;
  private permutation: { epoch: number; order: Permutation } | undefined;
  private readonly source: SequenceSource;
  private readonly version: OrderVersion;

  /** @throws ERR_RANGE if a size is not a positive integer or the source does not fill one window with its targets. */
  constructor(source: TokenSource | SequenceSource, options: BatchOptions) {
    const {
      batchSize,
      contextLength,
      seed = 0,
      shuffle = true,
      documentStart = null,
      version = orderVersion,
    } = options;
    for (const [name, size] of Object.entries({ batchSize, contextLength }))
      if (!Number.isSafeInteger(size) || size < 1)
        throw new HeedError("ERR_RANGE", `Batches: expected ${name} to be an integer of at least 1, got ${size}`);
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new HeedError("ERR_RANGE", `Batches: expected seed to be an integer of at least 0, got ${seed}`);
    const sequences = "sequence" in source ? source : windowsOf(source, contextLength);
    this.source = version === orderVersion ? sequences : (sequences.withOrder?.(version) ?? sequences);
    this.version = version;
    if (this.source.contextLength !== contextLength)
      throw new HeedError(
        "ERR_RANGE",
        `Batches: expected contextLength ${this.source.contextLength}, to which the examples are packed, got ${contextLength}`,
      );
    this.batchSize = batchSize;
    this.contextLength = contextLength;
    this.seed = seed;
    this.shuffle = shuffle;
    this.documentStart = documentStart;
    this.windows = this.source.sequences;
  }

  /** Text that tells the order of the windows apart from others; null if only the source knows it. */
  get order(): string | null {
    const { order, ordered } = this.source;
    if (order !== undefined || ordered) return order ?? null;
    return this.shuffle ? orderOf(this.seed, this.version) : "in order";
  }

  /** Number of whole batches in an epoch. */
  get batchesPerEpoch(): number {
    return Math.floor(this.windows / this.batchSize);
  }

  /** Returns the epoch, counted from 0, of the first window in a step's batch. */
  epoch(step: number): number {
    return Math.floor((step * this.batchSize) / this.windows);
  }

  /**
   * Returns the batch of a step, counted from 0.
   *
   * @throws ERR_RANGE if the step is not an integer of at least 0.
   */
  batch(step: number): Batch {
    if (!Number.isSafeInteger(step) || step < 0 || !Number.isSafeInteger((step + 1) * this.batchSize))
      throw new HeedError("ERR_RANGE", `Batches: expected a step of at least 0, got ${step}`);
    return this.take(step * this.batchSize, this.batchSize);
  }

  /**
   * Returns `count` windows, starting with number `first`. Windows are counted from 0 over all epochs, whatever the
   * size of the batches was.
   *
   * @throws ERR_RANGE if `first` is not an integer of at least 0.
   */
  take(first: number, count: number): Batch {
    const T = this.contextLength;
    if (!Number.isSafeInteger(first) || first < 0 || !Number.isSafeInteger(first + count))
      throw new HeedError("ERR_RANGE", `Batches: expected a first window of at least 0, got ${first}`);
    const inputs = new Int32Array(count * T);
    const targets = new Int32Array(count * T);
    const documents: (readonly number[] | null)[] = [];
    for (let b = 0; b < count; b++) {
      const sequence = this.source.sequence(this.windowOf(first + b));
      inputs.set(sequence.inputs, b * T);
      targets.set(sequence.targets, b * T);
      documents.push(this.documentsIn(sequence));
    }
    // A sequence without borders among others is a document of its own: it must not take the borders of the others away.
    const bordered = documents.some((lengths) => lengths !== null);
    return { inputs, targets, documents: bordered ? documents.map((lengths) => lengths ?? [T]) : null };
  }

  /** Returns the lengths of the documents in a sequence; null if it has no borders. */
  private documentsIn({ inputs, documents }: TrainingSequence): readonly number[] | null {
    return documents ?? (this.documentStart === null ? null : documentsIn(inputs, this.documentStart));
  }

  /** Returns the index in the source of the window with number `count`, counted over all epochs. */
  private windowOf(count: number): number {
    if (this.source.ordered) return count;
    const position = count % this.windows;
    if (!this.shuffle) return position;
    const epoch = (count - position) / this.windows;
    if (this.permutation?.epoch !== epoch)
      this.permutation = { epoch, order: new Permutation(this.windows, this.seed, epoch, this.version) };
    return this.permutation.order.at(position);
  }
}
