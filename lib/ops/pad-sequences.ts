/** Token ids of several sequences as one tensor. It is built on the host, once for each batch. */
import type { Device } from "../core/device.js";
import { largest } from "../util/largest.js";
import { tensor } from "../core/creation.js";
import type { IntTensor } from "../core/tensor.js";
import { checkArray, checkInteger, checkObject } from "./check.js";

/** Options of `padSequences`. */
export interface PadOptions {
  /** Id of the padding after a sequence. @default 0 */
  fill?: number;
  /** Device that holds the tensors. @default "auto" */
  device?: Device | string;
}

/** Padded sequences and their lengths. */
export interface PaddedSequences {
  /** Token ids, i32 [B, T]. */
  ids: IntTensor;
  /** Number of tokens of each sequence without padding, i32 [B]. */
  lengths: IntTensor;
}

/**
 * Returns sequences of token ids as the rows of one tensor, padded at their ends to the length of the longest.
 *
 * @example
 * const { ids, lengths } = padSequences([[5, 6, 7], [8]]); // [[5, 6, 7], [8, 0, 0]] and [3, 1]
 *
 * @throws ERR_RANGE if an id is not an integer of i32; ERR_ARGUMENT if `sequences` is not an array of arrays.
 */
export function padSequences(sequences: readonly ArrayLike<number>[], options: PadOptions = {}): PaddedSequences {
  checkArray("padSequences", "sequences", sequences);
  checkObject("padSequences", "options", options);
  const { fill = 0, ...place } = options;
  const [least, most] = [-(2 ** 31), 2 ** 31 - 1];
  checkInteger("padSequences", "fill", fill, least, most);
  for (const [b, sequence] of sequences.entries()) {
    checkObject("padSequences", `sequences[${b}]`, sequence);
    for (let t = 0; t < sequence.length; t++)
      checkInteger("padSequences", `sequences[${b}][${t}]`, sequence[t], least, most);
  }
  const longest = largest(sequences.map(({ length }) => length));
  const ids = new Int32Array(sequences.length * longest).fill(fill);
  for (const [b, sequence] of sequences.entries()) ids.set(sequence, b * longest);
  const lengths = Int32Array.from(sequences, ({ length }) => length);
  return {
    ids: tensor(ids, [sequences.length, longest], place),
    lengths: tensor(lengths, [sequences.length], place),
  };
}
