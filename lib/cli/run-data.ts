import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { findPattern, formatOf, isPattern } from "../data/inputs.js";
import { HeedError } from "../errors.js";
import { ByteTokenizer } from "../tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../tokenizer/char-tokenizer.js";
import { Gpt2Tokenizer } from "../tokenizer/gpt2-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { splitSource, tokenData, type TokenSource } from "../train/token-data.js";
import { packExamples, type TrainingExample } from "../train/pack-examples.js";
import { readExamples } from "../train/read-examples.js";
import { pauseIfLong } from "../turns.js";
import { type DataPart, shardParts } from "./data-parts.js";
import type { RunData } from "./encoded-data.js";
import { asUsage, UsageError } from "./failure.js";
import { complain } from "./output.js";
import { type PairSource, pairsIn, pairsOfShards, splitPairs } from "./run-pairs.js";
import { checkTokenizers, readShards } from "./run-shards.js";
import type { RunFlags } from "./train-flags.js";

/**
 * Reads and encodes the texts of a run, or opens its shards. `known` is the tokenizer of the run that is resumed, or of
 * the model that is trained further; if it is null, a new one is made. `warn` gets what the user should know.
 *
 * @throws ERR_IO if a file cannot be read.
 * @throws ERR_RANGE if a text is too short.
 * @throws ERR_FORMAT if the data does not have the hash `expectedHash`.
 * @throws UsageError if `--documents` is used without GPT-2's tokens.
 */
export async function readData(
  flags: RunFlags,
  known: Tokenizer | null,
  { expectedHash, warn = complain }: { expectedHash?: unknown; warn?: (text: string) => void } = {},
): Promise<RunData> {
  const parts = shardParts(flags.data);
  if (flags.preference) {
    const pairs = await readPreferences(flags, parts, known!, warn);
    checkHash(flags, pairs.hash, expectedHash);
    return pairs;
  }
  if (parts) {
    const shards = await readShards(flags, parts, known);
    checkHash(flags, shards.hash, expectedHash);
    return shards;
  }
  const files = await filesOf(flags.data);
  const data = await read(files);
  const hash = await hashOf(data);
  checkHash(flags, hash, expectedHash);
  if (files.every((file) => file.endsWith(".jsonl")) && known && flags.from !== undefined)
    return { ...(await readPacked(flags, files, known)), tokenizer: known, hash, chats: hasMessages(data) };
  const heldOut = flags.validation === undefined ? null : await read(await filesOf(flags.validation));
  const tokenizer = known ?? (await createTokenizer(flags.tokenizer, heldOut ? [data, heldOut] : [data]));
  const { documents } = flags;
  if (documents && !(tokenizer instanceof Gpt2Tokenizer))
    throw new UsageError("--documents: works only with --tokenizer gpt2, which has a token that begins a document");
  const { train, validation } = heldOut
    ? { train: await encode(data, tokenizer, documents), validation: await encode(heldOut, tokenizer, documents) }
    : splitSource(await encode(data, tokenizer, documents), flags.validationFraction);
  checkLength(flags.data, "for training", train, flags.context);
  const validates = heldOut !== null || flags.validationFraction > 0;
  if (validates) checkLength(flags.validation ?? flags.data, "for validation", validation, flags.context);
  return {
    tokenizer,
    train,
    validation: validates ? validation : null,
    hash,
  };
}

/** Reads the examples of a fine-tuning run. Without a file for validation, it gets the last share of the examples. */
async function readPacked(
  flags: RunFlags,
  files: readonly string[],
  tokenizer: Tokenizer,
): Promise<Pick<RunData, "train" | "validation">> {
  const examplesOf = async (names: readonly string[]): Promise<TrainingExample[]> => {
    const examples: TrainingExample[] = [];
    for (const name of names) for (const example of await readExamples(name, tokenizer)) examples.push(example);
    return examples;
  };
  const all = await examplesOf(files);
  const border = all.length - Math.floor(all.length * flags.validationFraction);
  const [train, heldOut] =
    flags.validation === undefined
      ? [all.slice(0, border), all.slice(border)]
      : [all, await examplesOf(await filesOf(flags.validation))];
  const options = { contextLength: flags.context };
  return asUsage(() => ({
    train: packExamples(train, options),
    validation: heldOut.length > 0 ? packExamples(heldOut, options) : null,
  }));
}

/** Reads the pairs of answers of a run, or opens their shards. Without others, the last share is for validation. */
async function readPreferences(
  flags: RunFlags,
  parts: readonly DataPart[] | null,
  tokenizer: Tokenizer,
  warn: (text: string) => void,
): Promise<RunData<PairSource>> {
  const sourceOf = async (data: string, from: readonly DataPart[] | null): Promise<PairSource & { hash: string }> => {
    if (from) {
      const opened = pairsOfShards(from, flags);
      const shards = opened.shards.map((one) => ({ shards: one }));
      await checkTokenizers(flags, await opened.shards[0]!.tokenizer(), tokenizer, shards);
      return opened;
    }
    const files = await filesOf(data);
    const hash = await hashOf(await read(files));
    const { leftOut, ...pairs } = await pairsIn(files, tokenizer, flags);
    if (leftOut > 0)
      warn(`warning: ${data}: ${leftOut} of ${leftOut + pairs.pairs} pairs do not fit into --context ${flags.context}`);
    return { ...pairs, hash };
  };
  const source = await sourceOf(flags.data, parts);
  const { hash } = source;
  if (flags.validation === undefined) return { tokenizer, hash, ...splitPairs(source, flags.validationFraction) };
  const validation = await sourceOf(flags.validation, shardParts(flags.validation));
  return { tokenizer, hash, train: source, validation };
}

/** Returns true if the first of the JSON lines is a conversation. The lines have been read without an error. */
function hasMessages(data: Buffer): boolean {
  let from = 0;
  while (from < data.length) {
    const end = data.indexOf("\n", from);
    const to = end < 0 ? data.length : end;
    const line = data.toString("utf8", from, to).trim();
    if (line !== "") return "messages" in (JSON.parse(line) as object);
    from = to + 1;
  }
  return false;
}

function checkHash({ data }: RunFlags, hash: string, expectedHash: unknown): void {
  if (expectedHash !== undefined && expectedHash !== hash)
    throw new HeedError(
      "ERR_FORMAT",
      `${data}: expected the text with which the run began, got another one; give --data to train on it`,
    );
}

/** Resolves to the files that a path or a pattern names. */
async function filesOf(name: string): Promise<string[]> {
  const files = !isPattern(name) || existsSync(name) ? [name] : await findPattern(name);
  if (files.length === 0) throw new HeedError("ERR_IO", `${name}: expected files that match the pattern, got none`);
  for (const file of files) {
    const { format, compression = null } = formatOf(file) ?? {};
    if (format === "parquet" || compression !== null)
      throw new UsageError(`--data ${file}: expected a text; turn other files into shards with heed data`);
  }
  return files;
}

/** Resolves to the bytes of files, one after the other. */
async function read(files: readonly string[]): Promise<Buffer> {
  const texts: Buffer[] = [];
  for (const file of files) {
    let text: Buffer;
    try {
      text = await readFile(file);
    } catch (cause) {
      throw new HeedError("ERR_IO", `${file}: ${(cause as Error).message}`, { cause });
    }
    if (text.length === 0) throw new HeedError("ERR_RANGE", `${file}: expected a text, got an empty file`);
    texts.push(text);
  }
  return texts.length === 1 ? texts[0]! : Buffer.concat(texts);
}

async function createTokenizer(kind: RunFlags["tokenizer"], texts: readonly Buffer[]): Promise<Tokenizer> {
  if (kind === "byte") return new ByteTokenizer();
  if (kind === "gpt2") return Gpt2Tokenizer.load();
  return CharTokenizer.of(texts.map(String).join(""));
}

async function hashOf(data: Buffer): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < data.length; at += 2 ** 20) {
    hash.update(data.subarray(at, at + 2 ** 20));
    await pauseIfLong();
  }
  return hash.digest("hex");
}

/** Encodes a text. With `special`, the names of special tokens in the text become these tokens. */
async function encode(text: Buffer, tokenizer: Tokenizer, special: boolean): Promise<TokenSource> {
  if (tokenizer instanceof ByteTokenizer) return tokenData(text);
  const words = text.toString();
  if (tokenizer instanceof Gpt2Tokenizer) return tokenData(await tokenizer.encodeAsync(words, { special }));
  return tokenData(await encodeText(tokenizer, words));
}

function checkLength(file: string, purpose: string, { length }: TokenSource, context: number): void {
  if (length > context) return;
  throw new HeedError(
    "ERR_RANGE",
    `${file}: expected more than the ${context} tokens of --context ${purpose}, got ${length}`,
  );
}
