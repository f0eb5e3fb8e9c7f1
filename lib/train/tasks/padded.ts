import { checkArray } from "../../util/check.js";
import { HeedError } from "../../util/errors.js";
import type { TrainingExample } from "../../data/pack-examples.js";
import { ignored } from "../../data/sequence-source.js";

/** Ids of a text or of a sequence. */
export type Ids = ArrayLike<number>;

/** Sequences of different lengths, padded at their ends. */
export interface Padded {
  /** Ids, [B, T], one sequence after the other. */
  ids: Int32Array;
  /** Numbers of real tokens, [B]. */
  lengths: Int32Array;
  /** [B, T]. */
  shape: [number, number];
}

/**
 * Pads sequences at their ends with `value` to the length of the longest.
 *
 * @throws ERR_ARGUMENT if there is none, or one is empty.
 */
export function padded(op: string, sequences: readonly Ids[], value = 0): Padded {
  checkArray(op, "the sequences of a batch", sequences);
  if (sequences.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one sequence, got none`);
  const lengths = Int32Array.from(sequences, ({ length }) => length);
  if (!lengths.every((length) => length > 0))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected sequences with at least one token, got an empty one`);
  const most = lengths.reduce((a, b) => Math.max(a, b));
  const ids = new Int32Array(sequences.length * most).fill(value);
  for (const [row, sequence] of sequences.entries()) ids.set(sequence, row * most);
  return { ids, lengths, shape: [sequences.length, most] };
}

/** Examples as inputs and the tokens to predict. */
export interface PaddedExamples {
  /** Ids that the model reads, [B, T]. */
  inputs: Int32Array;
  /** Id to predict at each place, [B, T]; −100 where none counts. */
  targets: Int32Array;
  /** Number of tokens of each example that the model reads, [B]. */
  lengths: number[];
  /** Number of tokens to predict in each example, [B]. */
  counts: number[];
  /** [B, T]. */
  shape: [number, number];
}

/** Pads examples at their ends. The last token of each is only predicted, not read. */
export function paddedExamples(op: string, examples: readonly TrainingExample[]): PaddedExamples {
  checkArray(op, "the examples of a batch", examples);
  if (examples.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one example, got none`);
  const lengths = examples.map(({ ids }) => ids.length - 1);
  const length = Math.max(1, ...lengths);
  const inputs = new Int32Array(examples.length * length);
  const targets = new Int32Array(examples.length * length).fill(ignored);
  const counts = examples.map(({ ids, mask }, row) => {
    let count = 0;
    inputs.set(ids.subarray(0, -1), row * length);
    for (let t = 1; t < ids.length; t++)
      if (mask[t]) {
        targets[row * length + t - 1] = ids[t]!;
        count++;
      }
    return count;
  });
  return { inputs, targets, lengths, counts, shape: [examples.length, length] };
}
