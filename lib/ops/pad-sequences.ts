/** Token ids of several lengths as one tensor: what is worked out once a batch, on the host. */
import type { Device } from "../device.js";
import { largest } from "../largest.js";
import { tensor } from "../creation.js";
import type { IntTensor } from "../tensor.js";
import { checkArray, checkInteger, checkObject } from "./check.js";

export interface PadOptions {
  /** What stands behind a sequence; 0 unless given. */
  fill?: number;
  /** "auto" unless given. */
  device?: Device | string;
}

export interface PaddedSequences {
  /** i32 [B, T] */
  ids: IntTensor;
  /** i32 [B]: real tokens of each sequence. */
  lengths: IntTensor;
}

/** Sequences one below the other, padded at their ends to the longest of them. */
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
