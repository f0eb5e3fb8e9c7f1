import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { SequenceSource } from "../train/sequence-source.js";
import type { TokenSource } from "../train/token-data.js";

/** The encoded texts of a training run. */
export interface RunData {
  tokenizer: Tokenizer;
  train: TokenSource | SequenceSource;
  validation: TokenSource | SequenceSource | null;
  /** Hash of the data. A resumed run must have the same data. */
  hash: string;
}
