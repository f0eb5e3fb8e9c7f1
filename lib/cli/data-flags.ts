import type { DataKind } from "../data/records.js";

/** The flags of `heed data`. */
export interface DataFlags {
  out?: string;
  tokenizer: string;
  kind?: DataKind;
  separator?: string;
  textColumn: string;
  threads?: number;
  shardTokens?: number;
  maxBad: number;
  revision?: string;
  show?: number;
}
