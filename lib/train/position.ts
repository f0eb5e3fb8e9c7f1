import { HeedError } from "../errors.js";
import type { Batches } from "./batches.js";

/** Where in its data a run is. */
export interface DataPosition {
  /** Sequences taken, over all sessions and epochs: the next one to read, whatever the sizes of the batches were. */
  sequences: number;
  /** Micro-batches run, over all sessions: each has dropout masks of its own. */
  microBatches: number;
  /** Tokens a sequence. With other sequences, their number says nothing of what has been read. */
  contextLength: number;
  sequencesPerEpoch: number;
}

/**
 * Where a session begins: at the data's start, or where the run was. Throws ERR_ARGUMENT where the data is cut into other
 * sequences than those that were counted, unless it is new.
 */
export function firstPosition(
  { contextLength, windows }: Batches,
  resumed: { step: number; position?: DataPosition | null } | null,
  newData: boolean,
): DataPosition {
  const start = { sequences: 0, microBatches: 0, contextLength, sequencesPerEpoch: windows };
  if (!resumed) return start;
  const { step, position } = resumed;
  if (newData) return { ...start, microBatches: position?.microBatches ?? step };
  if (position?.contextLength === contextLength && position.sequencesPerEpoch === windows) return position;
  const got = `got ${windows} sequences of ${contextLength} tokens; newData: true reads other data from its start`;
  const expected = position
    ? `${position.sequencesPerEpoch} sequences of ${position.contextLength} tokens, as when the checkpoint was saved`
    : "a checkpoint that says what of the data has been read";
  throw new HeedError("ERR_ARGUMENT", `Trainer: expected ${expected}, ${got}`);
}

/** A position after more micro-batches of a size. */
export function advanced(position: DataPosition, microBatches: number, batchSize: number): DataPosition {
  return {
    ...position,
    sequences: position.sequences + microBatches * batchSize,
    microBatches: position.microBatches + microBatches,
  };
}
