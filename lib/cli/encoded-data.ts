import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { SequenceSource } from "../data/sequence-source.js";
import type { TokenSource } from "../data/token-data.js";
import type { PairSource } from "./run-pairs.js";

/** The encoded texts of a training run. `Source` is a stream of tokens, sequences, or pairs of answers. */
export interface RunData<Source extends DataSource = DataSource> {
  tokenizer: Tokenizer;
  train: Source;
  validation: Source | null;
  /** True if the examples are conversations, so far as the first one tells. */
  chats?: boolean;
  /** Hash of the data. A resumed run must have the same data. */
  hash: string;
  /** Number of tokens to train on that count for the loss, if they are not all. */
  targets?: number | undefined;
}

/** Data of a run: a stream of tokens, sequences, or pairs of answers. */
export type DataSource = TokenSource | SequenceSource | PairSource;

/** Returns true if a run has pairs of answers. */
export function isPairData(data: RunData): data is RunData<PairSource> {
  return "pair" in data.train;
}
