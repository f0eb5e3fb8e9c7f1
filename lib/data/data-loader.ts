import { checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { orderOf, type OrderVersion, orderVersion } from "../util/permutation.js";
import { type Batch, Batches, type BatchOptions } from "./batches.js";
import type { SequenceSource } from "./sequence-source.js";
import type { TokenSource } from "./token-data.js";

/** Place of a loader in its data, a small object that can be saved as JSON. */
export interface DataLoaderState {
  /** Number of sequences that were loaded, over all epochs. */
  sequences: number;
  /** T, the number of tokens in a sequence. */
  contextLength: number;
  /** Number of sequences in an epoch. */
  sequencesPerEpoch: number;
  /** Description of the order, such as its seed. */
  order: string;
}

/**
 * Endless iterable of batches, whose place can be saved and restored: a loader that continues gives the batches that the
 * first one would have given, bit for bit, also in the middle of an epoch.
 *
 * @example
 * const loader = new DataLoader(tokenData(tokenizer.encode("to be or not to be")), { batchSize: 2, contextLength: 4 });
 * const { inputs, targets } = loader.next().value; // ids, [2, 4] each
 * const state = JSON.stringify(loader.state());
 * loader.next();
 * loader.restore(JSON.parse(state)); // next() gives the same batch again
 */
export class DataLoader implements IterableIterator<Batch, never> {
  /** Process whose share of the data this is, if `mixSequences` has divided it; see `SequenceSource.divided`. */
  readonly divided: SequenceSource["divided"];
  readonly #batchesIn: (version: OrderVersion) => Batches;
  /** Order of a source that shuffles by itself and does not describe its order. */
  readonly #unknown: string;
  #batches: Batches;
  #sequences = 0;

  /** @throws ERR_RANGE if a size is not a positive integer or the source does not fill one window with its targets. */
  constructor(source: TokenSource | SequenceSource, options: BatchOptions) {
    const { seed = 0, shuffle = true } = options;
    this.#batchesIn = (version) => new Batches(source, { ...options, version });
    this.#batches = this.#batchesIn(orderVersion);
    this.#unknown = shuffle ? orderOf(seed, 1) : "in order";
    this.divided = "sequence" in source ? source.divided : undefined;
  }

  /** Number of sequences in a batch. */
  get batchSize(): number {
    return this.#batches.batchSize;
  }

  /** Epoch of the next sequence, counted from 0. */
  get epoch(): number {
    return Math.floor(this.#sequences / this.#batches.windows);
  }

  /** Returns the next batch; `done` is always false, as epoch follows epoch. */
  next(): { value: Batch; done: false } {
    const value = this.#batches.take(this.#sequences, this.#batches.batchSize);
    this.#sequences += this.#batches.batchSize;
    return { value, done: false };
  }

  /** Returns the loader itself. */
  [Symbol.iterator](): this {
    return this;
  }

  /** Returns the place of the next batch. */
  state(): DataLoaderState {
    return { sequences: this.#sequences, ...this.#cutOf(this.#batches) };
  }

  /**
   * Continues at a place that `state` has returned. The size of the batches may differ.
   *
   * @throws ERR_ARGUMENT if the state is not one of this data in this order.
   */
  restore(state: DataLoaderState): void {
    checkObject("DataLoader", "state", state);
    // Earlier versions of heed had other orders of few sequences.
    const versions = ([orderVersion, 1] as const).map((version) => this.#batchesIn(version));
    const batches = versions.find((one) => this.#cutOf(one).order === state.order) ?? this.#batches;
    const own = this.#cutOf(batches);
    for (const name of ["contextLength", "sequencesPerEpoch", "order"] as const)
      if (state[name] !== own[name])
        throw new HeedError(
          "ERR_ARGUMENT",
          `DataLoader: expected a state with ${name} ${describe(own[name])}, got ${describe(state[name])}`,
        );
    if (!Number.isSafeInteger(state.sequences) || state.sequences < 0)
      throw new HeedError(
        "ERR_ARGUMENT",
        `DataLoader: expected a state with a number of sequences, got ${describe(state.sequences)}`,
      );
    this.#batches = batches;
    this.#sequences = state.sequences;
  }

  /** Returns how the data is cut and ordered. */
  #cutOf({ contextLength, windows, order }: Batches): Omit<DataLoaderState, "sequences"> {
    return { contextLength, sequencesPerEpoch: windows, order: order ?? this.#unknown };
  }
}
