import { createHash } from "node:crypto";
import { createReadStream, existsSync, statSync } from "node:fs";
import { bytesOf } from "../data/bytes.js";
import { findPattern, formatOf, isPattern } from "../data/inputs.js";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { ByteTokenizer } from "../tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../tokenizer/char-tokenizer.js";
import { Gpt2Tokenizer } from "../tokenizer/gpt2-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { withChatTemplate } from "../data/chat-examples.js";
import type { PackedExamples, TrainingExample } from "../data/pack-examples.js";
import { splitSource, tokenData, type TokenSource } from "../data/token-data.js";
import { pauseIfLong } from "../util/turns.js";
import { type DataPart, shardParts } from "./data-parts.js";
import type { RunData } from "./encoded-data.js";
import { UsageError } from "./failure.js";
import { complain } from "./output.js";
import { type PairSource, pairsIn, pairsOfShards, splitPairs } from "./run-pairs.js";
import {
  examplesOf,
  hasConversations,
  pack,
  recordsOf,
  type RunRecord,
  teaches,
  textOf,
  tokenizerFor,
} from "./run-records.js";
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
    const shards = await readShards(flags, parts, known, warn);
    checkHash(flags, shards.hash, expectedHash);
    return shards;
  }
  const files = await filesOf(flags.data);
  const hash = await hashOf(files);
  checkHash(flags, hash, expectedHash);
  const content = await contentOf(files);
  const heldOut = flags.validation === undefined ? null : await contentOf(await filesOf(flags.validation));
  const { documents } = flags;
  const contents = heldOut ? [content, heldOut] : [content];
  const plain = known ?? (await createTokenizer(flags.tokenizer, contents));
  if (documents && content.text && !(plain instanceof Gpt2Tokenizer))
    throw new UsageError("--documents: works only with --tokenizer gpt2, which has a token that begins a document");
  const records = contents.flatMap((one) => one.records ?? []);
  const tokenizer = tokenizerFor(records, plain);
  const chats = hasConversations(records);
  const examples = (name: string, found: readonly RunRecord[]): Promise<TrainingExample[]> =>
    examplesOf(found, tokenizer, { data: name, context: flags.context, warn });
  const sourceOf = async (name: string, purpose: string, given: RunContent): Promise<TokenSource | PackedExamples> => {
    if (given.records) return pack(name, await examples(name, given.records), flags);
    const stream = await encode(given.text, plain, documents);
    checkLength(name, purpose, stream, flags.context);
    return stream;
  };
  if (heldOut) {
    const validation = await sourceOf(flags.validation!, "for validation", heldOut);
    return { tokenizer, hash, chats, train: await sourceOf(flags.data, "for training", content), validation };
  }
  const { validationFraction, context } = flags;
  if (content.records) {
    const all = await examples(flags.data, content.records);
    const border = all.length - Math.floor(all.length * validationFraction);
    const rest = all.slice(border);
    const train = pack(flags.data, all.slice(0, border), flags);
    return { tokenizer, hash, chats, train, validation: teaches(rest) ? pack(flags.data, rest, flags) : null };
  }
  const { train, validation } = splitSource(await encode(content.text, plain, documents), validationFraction);
  checkLength(flags.data, "for training", train, context);
  if (validationFraction === 0) return { tokenizer, hash, train, validation: null };
  checkLength(flags.data, "for validation", validation, context);
  return { tokenizer, hash, train, validation };
}

/** Reads the pairs of answers of a run, or opens their shards. Without others, the last share is for validation. */
async function readPreferences(
  flags: RunFlags,
  parts: readonly DataPart[] | null,
  given: Tokenizer,
  warn: (text: string) => void,
): Promise<RunData<PairSource>> {
  let tokenizer = given;
  const sourceOf = async (data: string, from: readonly DataPart[] | null): Promise<PairSource & { hash: string }> => {
    const opened = from && pairsOfShards(from, flags);
    if (opened) {
      const shards = opened.shards.map((one) => ({ shards: one }));
      await checkTokenizers(flags, await opened.shards[0]!.tokenizer(), tokenizer, shards);
    }
    const files = opened ? [] : await filesOf(data);
    if (!opened) tokenizer = withTemplateIfAny(tokenizer);
    const source = opened ?? { ...(await pairsIn(files, tokenizer, flags)), hash: await hashOf(files) };
    const { leftOut, pairs } = source;
    if (leftOut > 0)
      warn(
        `warning: ${data}: ${leftOut} of ${leftOut + pairs} pairs do not fit into --context ${flags.context} and are left out`,
      );
    return source;
  };
  const source = await sourceOf(flags.data, parts);
  const { hash } = source;
  if (flags.validation === undefined) return { tokenizer, hash, ...splitPairs(source, flags.validationFraction) };
  const validation = await sourceOf(flags.validation, shardParts(flags.validation));
  return { tokenizer, hash, train: source, validation };
}

/** Returns the tokenizer with a chat template; the tokenizer itself if it can have none, as texts need none. */
function withTemplateIfAny(tokenizer: Tokenizer): Tokenizer {
  try {
    return withChatTemplate(tokenizer);
  } catch {
    return tokenizer;
  }
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
  for (const file of files)
    if (existsSync(file) && statSync(file).isDirectory())
      throw new UsageError(
        `--data ${file}: expected a file or a pattern of files, got a folder; heed data turns it into shards`,
      );
  return files;
}

/** Content of the files of a run: a text, or records if one of the files has them. */
type RunContent = { text: Buffer; records?: undefined } | { records: RunRecord[]; text?: undefined };

async function contentOf(files: readonly string[]): Promise<RunContent> {
  const isOfRecords = (file: string): boolean => (formatOf(file)?.format ?? "text") !== "text";
  return files.some(isOfRecords) ? { records: await recordsOf(files) } : { text: await read(files) };
}

/** Resolves to the bytes of texts, decompressed, one after the other. */
async function read(files: readonly string[]): Promise<Buffer> {
  const texts: Buffer[] = [];
  for (const file of files) {
    const format = formatOf(file);
    if (!format && packed.test(file))
      throw new UsageError(
        `--data ${file}: expected a text, or a file whose name says its format, such as .txt.gz or .jsonl.zst`,
      );
    const pieces = bytesOf({
      path: file,
      format: "text",
      compression: format?.compression ?? null,
      size: 0,
      modified: 0,
    });
    const parts: Buffer[] = [];
    for await (const piece of pieces) parts.push(piece);
    const bytes = Buffer.concat(parts);
    if (bytes.length === 0) throw new HeedError("ERR_RANGE", `${file}: expected a text, got an empty file`);
    texts.push(bytes.subarray(0, 3).equals(mark) ? bytes.subarray(3) : bytes);
  }
  return texts.length === 1 ? texts[0]! : Buffer.concat(texts);
}

/** Names of files that are compressed or packed. */
const packed = /\.(gz|zst|bz2|xz|zip|7z|br|lz4|tar|tgz)$/i;
/** Byte order mark of UTF-8. */
const mark = Buffer.from("\ufeff");

async function createTokenizer(kind: RunFlags["tokenizer"], contents: readonly RunContent[]): Promise<Tokenizer> {
  if (kind === "byte") return new ByteTokenizer();
  if (kind === "gpt2") return Gpt2Tokenizer.load();
  if (contents.some(({ records }) => records && hasConversations(records)))
    throw new UsageError(
      "--tokenizer char: expected byte or gpt2 for conversations, whose roles need other characters",
    );
  return CharTokenizer.of(contents.map(({ text, records }) => text?.toString() ?? textOf(records!)).join(""));
}

/** Resolves to the hash of the bytes of files, as they are stored, one after the other. */
async function hashOf(files: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const file of files)
    await naming(file, async () => {
      for await (const piece of createReadStream(file, { highWaterMark: 2 ** 20 })) {
        hash.update(piece as Buffer);
        await pauseIfLong();
      }
    });
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
