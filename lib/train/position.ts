import { HeedError } from "../errors.js";
import type { Batches } from "./batches.js";

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

/** Returns true for a position in an iterable of batches. */
export function isBatchPosition(position: DataPosition | BatchPosition): position is BatchPosition {
  return "batch" in position;
}

/**
 * Returns the position at which a session begins: the start of the data, or the position of the run that is resumed.
 *
 * @throws ERR_ARGUMENT if the data is cut into other sequences than those that were counted, unless `newData` is true.
 */
export function firstPosition(
  { contextLength, windows }: Batches,
  resumed: { step: number; position?: DataPosition | BatchPosition | null } | null,
  newData: boolean,
): DataPosition {
  const start = { sequences: 0, microBatches: 0, contextLength, sequencesPerEpoch: windows };
  if (!resumed) return start;
  const { step } = resumed;
  const position = resumed.position && !isBatchPosition(resumed.position) ? resumed.position : null;
  if (newData) return { ...start, microBatches: resumed.position?.microBatches ?? step };
  if (position?.contextLength === contextLength && position.sequencesPerEpoch === windows) return position;
  const got = `got ${windows} sequences of ${contextLength} tokens; set newData: true to read other data from its start`;
  const expected = position
    ? `${position.sequencesPerEpoch} sequences of ${position.contextLength} tokens, as when the checkpoint was saved`
    : "a checkpoint that says how much of the data has been read";
  throw new HeedError("ERR_ARGUMENT", `Trainer: expected ${expected}, ${got}`);
}

/** Returns the position after more micro-batches of `batchSize` sequences each. */
export function advanced(position: DataPosition, microBatches: number, batchSize: number): DataPosition {
  return {
    ...position,
    sequences: position.sequences + microBatches * batchSize,
    microBatches: position.microBatches + microBatches,
  };
}
