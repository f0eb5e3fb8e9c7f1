import { HeedError } from "../util/errors.js";
import type { OrderVersion } from "../util/permutation.js";
import type { TokenSource } from "./token-data.js";

/** Target of a position that does not count for the loss. */
export const ignored = -100;

/** Sequence of T tokens to train on. */
export interface TrainingSequence {
  /** Ids, [T]. */
  inputs: Int32Array;
  /** Id to predict at each position, [T]; −100 where the loss does not count. */
  targets: Int32Array;
  /**
   * Lengths of the documents that the sequence is packed from, which do not see each other; the rest is padding. null
   * if it is one document.
   */
  documents: readonly number[] | null;
}

/** Sequences to train on, all of the same length, such as `packExamples` makes them. */
export interface SequenceSource {
  /** Number of sequences. */
  readonly sequences: number;
  /** T, the number of tokens of each sequence. */
  readonly contextLength: number;
  /**
   * True if the source never ends and shuffles by itself, as that of `mixSequences` does. `sequence` then takes the
   * number of a sequence counted over all epochs, and `sequences` is only the length of an epoch.
   * @default false
   */
  readonly ordered?: boolean;
  /**
   * Text that tells the order of an ordered source apart from others, such as one of another seed. A trainer saves it in
   * its checkpoints, and refuses to resume with data of another order.
   */
  readonly order?: string;
  /**
   * Process whose share of the data this is, if the source divides its data between several processes. Trainers with
   * `distributed` divide all data by themselves and refuse such a source.
   */
  readonly divided?: { readonly rank: number; readonly size: number } | undefined;
  /** @internal Returns the same source in the orders of another version. */
  withOrder?(version: OrderVersion): SequenceSource;
  /** Returns the sequence with this number, counted from 0. */
  sequence(index: number): TrainingSequence;
}

/**
 * Returns the windows of a stream of tokens, which lie side by side: the target of a window's last token is the first
 * token of the next.
 *
 * @throws ERR_RANGE if the stream does not fill one window with its targets.
 */
export function windowsOf(source: TokenSource, contextLength: number): SequenceSource {
  if (source.length < contextLength + 1)
    throw new HeedError(
      "ERR_RANGE",
      `Batches: expected at least ${contextLength + 1} tokens for a window of contextLength ${contextLength} and its targets, got ${source.length}`,
    );
  return {
    sequences: Math.floor((source.length - 1) / contextLength),
    contextLength,
    sequence(index) {
      const window = new Int32Array(contextLength + 1);
      source.read(index * contextLength, contextLength + 1, window);
      return { inputs: window.subarray(0, contextLength), targets: window.subarray(1), documents: null };
    },
  };
}

/**
 * Checks that data which a trainer divides between processes is not divided already: each process would read a share of
 * its share, and most of the data would never be read.
 *
 * @throws ERR_ARGUMENT if it is divided.
 */
export function checkUndivided(op: string, name: string, data: unknown, processes: number): void {
  const { divided } = Object(data) as Pick<SequenceSource, "divided">;
  if (processes === 1 || !divided || divided.size === 1) return;
  throw new HeedError(
    "ERR_ARGUMENT",
    `${op}: expected ${name} that is not divided, because distributed divides it between ${processes} processes, got the share of rank ${divided.rank} of ${divided.size}; leave rank and worldSize out of mixSequences`,
  );
}
