import { HeedError } from "../util/errors.js";
import { describe } from "../ops/check.js";
import { orderOf, type OrderVersion, orderVersion } from "../util/permutation.js";
import type { Batches } from "../data/batches.js";

/** Position of a run in its data. */
export interface DataPosition {
  /** Number of sequences read, over all sessions and epochs, whatever the batch sizes were: the next one to read. */
  sequences: number;
  /** Number of micro-batches run, over all sessions and processes. It seeds the dropout masks of the next one. */
  microBatches: number;
  /** Number of tokens in a sequence. If it changes, `sequences` no longer says what has been read. */
  contextLength: number;
  /** Number of sequences in an epoch. */
  sequencesPerEpoch: number;
}

/** Position of a run in an iterable of batches. */
export interface BatchPosition {
  /** Number of micro-batches run, over all sessions and processes. It seeds the dropout masks of the next one. */
  microBatches: number;
  /** Epoch of the next batch, counted from 0. */
  epoch: number;
  /** Number of the next batch in its epoch, counted from 0. */
  batch: number;
}

/** Run that is resumed, as far as its data is concerned. */
export interface ResumedRun {
  readonly step: number;
  readonly position?: DataPosition | BatchPosition | null;
  /** Order of its data; undefined if an earlier version of heed has not saved it. */
  readonly order?: string | null | undefined;
}

/** Returns true for a position in an iterable of batches. */
export function isBatchPosition(position: DataPosition | BatchPosition): position is BatchPosition {
  return "batch" in position;
}

/**
 * Returns the batches of a run, which `make` cuts in the orders of a version: those that the run to resume began with, or
 * else the present ones.
 */
export function batchesOf(
  make: (version: OrderVersion) => Batches,
  resumed: ResumedRun | null,
  newData: boolean,
): Batches {
  const batches = make(orderVersion);
  const { position, order } = resumed ?? {};
  if (!position || isBatchPosition(position) || newData) return batches;
  const before = make(1);
  // Checkpoints did not contain the order at first.
  return order === undefined || order === before.order ? before : batches;
}

/** Returns the version of the orders with which a run on batches began that are shuffled by this seed. */
export function orderVersionOf(resumed: ResumedRun | null, seed: number): OrderVersion {
  const { position, order } = resumed ?? {};
  return position && (order === undefined || order === orderOf(seed, 1)) ? 1 : orderVersion;
}

/**
 * Returns the position at which a session begins: the start of the data, or the position of the run that is resumed.
 *
 * @throws ERR_ARGUMENT if the data is cut into other sequences than those that were counted, or comes in another order,
 *   unless `newData` is true.
 */
export function firstPosition(
  { contextLength, windows, order }: Batches,
  resumed: ResumedRun | null,
  newData: boolean,
): DataPosition {
  const start = { sequences: 0, microBatches: 0, contextLength, sequencesPerEpoch: windows };
  if (!resumed) return start;
  const { step } = resumed;
  const position = resumed.position && !isBatchPosition(resumed.position) ? resumed.position : null;
  if (newData) return { ...start, microBatches: resumed.position?.microBatches ?? step };
  if (position?.contextLength !== contextLength || position.sequencesPerEpoch !== windows) {
    const expected = position
      ? `${position.sequencesPerEpoch} sequences of ${position.contextLength} tokens, as when the checkpoint was saved`
      : "a checkpoint that says how much of the data has been read";
    const got = `got ${windows} sequences of ${contextLength} tokens`;
    throw new HeedError(
      "ERR_ARGUMENT",
      `Trainer: expected ${expected}, ${got}; set newData: true to read other data from its start`,
    );
  }
  checkOrder("Trainer", resumed.order, order);
  return position;
}

/**
 * Checks that data comes in the order in which a run has read it.
 *
 * @throws ERR_ARGUMENT if it does not. An order of which nothing is known is not compared.
 */
export function checkOrder(op: string, before: string | null | undefined, order: string | null): void {
  if ((before ?? null) === null || before === order) return;
  throw new HeedError(
    "ERR_ARGUMENT",
    `${op}: expected data in the order that the run has read (${describe(before)}), got another order (${describe(order)}); set newData: true to read it from its start`,
  );
}

/** Returns the position after more micro-batches of `batchSize` sequences each. */
export function advanced(position: DataPosition, microBatches: number, batchSize: number): DataPosition {
  return {
    ...position,
    sequences: position.sequences + microBatches * batchSize,
    microBatches: position.microBatches + microBatches,
  };
}
