// The folder of a tokenised data set:
//
//   index.json              what the shards contain, written when they are complete
//   progress.json           the same while the run goes on, with the place in the inputs at which it continues
//   heed-tokenizer.json     the tokenizer
//   tokens-00000.bin        ids of tokens, u8, u16 or i32, little-endian
//   ends-00000.bin          i32: for each document that ends in the shard, the number of the shard's ids before its end
//   mask-00000.bin          u8: 1 for tokens that count for the loss; only if the data set is not one of texts
//
// The shards contain one stream of tokens, so that a document may begin in one shard and end in another.
import { existsSync } from "node:fs";
import path from "node:path";
import { describe, HeedError } from "../util/errors.js";
import type { TokenDType } from "./token-data.js";
import { type DataKind, dataKinds } from "./records.js";

const version = 1;

/** Names of the files in the folder. */
export const names = {
  index: "index.json",
  progress: "progress.json",
  tokenizer: "heed-tokenizer.json",
  shard: (part: "tokens" | "ends" | "mask", number: number): string => `${part}-${String(number).padStart(5, "0")}.bin`,
};

/** Numbers of a tokenised data set. */
export interface DataStatistics {
  /** Number of documents; a pair of answers counts as two. */
  documents: number;
  /** Number of tokens. */
  tokens: number;
  /** Number of tokens that count for the loss. */
  targets: number;
  /** Number of UTF-8 bytes of the texts. */
  textBytes: number;
  /** Number of tokens of the longest document. */
  longest: number;
  /** Number of lines that were left out because they are malformed. */
  badLines: number;
  /** Number of records that were left out because their label says that the answer is a bad one, as in the data of KTO. */
  badAnswers: number;
}

/** Content of index.json. */
export interface ShardIndex {
  kind: DataKind;
  dtype: TokenDType;
  vocabularySize: number;
  /** Numbers of tokens and of ends of documents in each shard. */
  shards: { tokens: number; documents: number }[];
  statistics: DataStatistics;
  /** Files that were read, with their sizes in bytes. */
  inputs: { name: string; size: number }[];
  /** Hash of all tokens and ends, which tells data sets apart. */
  hash: string;
}

/** Returns an index as the text of its file. */
export function indexText(index: ShardIndex): string {
  return `${JSON.stringify({ format: "heed-tokens", version, ...index }, null, 1)}\n`;
}

/**
 * Returns the index in a parsed index.json.
 *
 * @throws ERR_FORMAT if it is malformed; the message names the file.
 */
export function indexOf(folder: string, json: unknown): ShardIndex {
  const fields = Object(json) as Record<string, unknown>;
  const fail = (what: string, got: unknown): HeedError =>
    new HeedError("ERR_FORMAT", `${path.join(folder, names.index)}: expected ${what}, got ${describe(got)}`);
  if (fields.format !== "heed-tokens") throw fail('format to be "heed-tokens"', fields.format);
  if (fields.version !== version) throw fail(`version to be ${version}`, fields.version);
  if (!dataKinds.includes(fields.kind as DataKind)) throw fail("kind to be text, examples or preference", fields.kind);
  if (!["u8", "u16", "i32"].includes(fields.dtype as string)) throw fail("dtype to be u8, u16 or i32", fields.dtype);
  if (!isCount(fields.vocabularySize)) throw fail("vocabularySize to be a number", fields.vocabularySize);
  if (typeof fields.hash !== "string") throw fail("hash to be a text", fields.hash);
  const { shards, inputs } = fields;
  if (!Array.isArray(shards)) throw fail("shards to be an array", shards);
  if (!Array.isArray(inputs)) throw fail("inputs to be an array", inputs);
  for (const shard of shards as Partial<ShardIndex["shards"][number]>[])
    if (!isCount(shard?.tokens) || !isCount(shard.documents)) throw fail("shards with tokens and documents", shard);
  // Earlier versions of heed did not count bad answers.
  const counts: Record<string, unknown> = { badAnswers: 0, ...(Object(fields.statistics) as object) };
  for (const name of ["documents", "tokens", "targets", "textBytes", "longest", "badLines", "badAnswers"])
    if (!isCount(counts[name])) throw fail(`statistics.${name} to be a number`, counts[name]);
  const sums = { tokens: 0, documents: 0 };
  for (const shard of shards as ShardIndex["shards"]) {
    sums.tokens += shard.tokens;
    sums.documents += shard.documents;
  }
  if (sums.tokens !== counts.tokens || sums.documents !== counts.documents)
    throw fail("statistics that fit the shards", counts);
  return { ...(fields as unknown as ShardIndex), statistics: counts as unknown as DataStatistics };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Returns true if a path is a folder of shards, complete or not. */
export function isShardFolder(folder: string): boolean {
  const has = (name: string): boolean => existsSync(path.join(folder, name));
  return has(names.tokenizer) && (has(names.index) || has(names.progress));
}
