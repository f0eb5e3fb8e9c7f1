// Reads the shards of a tokenised data set by position. Their tokens form one stream, which documents divide.
import { readFileSync } from "node:fs";
import path from "node:path";
import { checkInteger } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { tokenizerFromFile } from "../tokenizer/from-json.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { PreferencePair } from "./preference-pair.js";
import type { TrainingExample } from "./pack-examples.js";
import { TokenFile, type TokenSource } from "./token-data.js";
import type { DataKind } from "./records.js";
import { type DataStatistics, indexOf, isShardFolder, names, type ShardIndex } from "./shard-index.js";

/** Number of ends of documents that are read at once. */
const pageLength = 4096;
/** Number of pages that are kept in memory. */
const mostPages = 64;

/**
 * Tokenised data set in a folder, which `writeShards` or `heed data` has written. The tokens of all documents form one
 * stream. Nothing but the index is in memory. Close it after use, or declare it with `using`.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * await writeFile("verse.txt", "Call me Ishmael. Some years ago");
 * await writeShards("verse.txt", { out: "verse-shards", tokenizer, threads: 0 });
 * using shards = TokenShards.open("verse-shards");
 * const first = new Int32Array(4);
 * shards.read(0, 4, first); // the first four ids
 * const { ids } = shards.document(0);
 */
export class TokenShards implements TokenSource, Disposable {
  readonly #files: { tokens: TokenFile; ends: TokenFile; mask: TokenFile | null }[] = [];
  /** Number of tokens, and of ends of documents, before each shard; the last number is that of all. */
  readonly #tokensBefore = [0];
  readonly #endsBefore = [0];
  /** Ends of documents by the number of their page; the page that was used last is the last one. */
  readonly #pages = new Map<number, Int32Array>();

  private constructor(
    /** Path of the folder. */
    readonly folder: string,
    private readonly index: ShardIndex,
  ) {}

  /**
   * Opens a folder of shards.
   *
   * @throws ERR_IO if a file cannot be opened.
   * @throws ERR_FORMAT if the folder contains no complete data set, or a file has another size than its index says.
   */
  static open(folder: string): TokenShards {
    const shards = new TokenShards(folder, readIndex(folder));
    try {
      shards.#open();
      return shards;
    } catch (error) {
      shards.close();
      throw error;
    }
  }

  #open(): void {
    const { shards, dtype, kind } = this.index;
    for (const [i, { tokens, documents }] of shards.entries()) {
      const part = (name: "tokens" | "ends" | "mask", type: ShardIndex["dtype"], length: number): TokenFile => {
        const file = TokenFile.open(path.join(this.folder, names.shard(name, i)), { dtype: type });
        if (file.length === length) return file;
        file.close();
        throw new HeedError("ERR_FORMAT", `${file.path}: expected ${length} numbers, got ${file.length}`);
      };
      const files = { tokens: part("tokens", dtype, tokens), ends: null, mask: null } as unknown as {
        tokens: TokenFile;
        ends: TokenFile;
        mask: TokenFile | null;
      };
      this.#files.push(files);
      files.ends = part("ends", "i32", documents);
      files.mask = kind === "text" ? null : part("mask", "u8", tokens);
      this.#tokensBefore.push(this.#tokensBefore.at(-1)! + tokens);
      this.#endsBefore.push(this.#endsBefore.at(-1)! + documents);
    }
  }

  /** Number of tokens. */
  get length(): number {
    return this.#tokensBefore.at(-1)!;
  }

  /** Number of documents; a pair of answers counts as two. */
  get documents(): number {
    return this.#endsBefore.at(-1)!;
  }

  /** Kind of the data set. */
  get kind(): DataKind {
    return this.index.kind;
  }

  /** Number of ids of the tokenizer's vocabulary. */
  get vocabularySize(): number {
    return this.index.vocabularySize;
  }

  /** Numbers of the data set. */
  get statistics(): Readonly<DataStatistics> {
    return this.index.statistics;
  }

  /** Text that tells data sets apart: a hash of all tokens. */
  get hash(): string {
    return this.index.hash;
  }

  /**
   * Resolves to the tokenizer with which the data was made.
   *
   * @throws ERR_IO or ERR_FORMAT if its file is missing or malformed.
   */
  async tokenizer(): Promise<Tokenizer> {
    const file = path.join(this.folder, names.tokenizer);
    const tokenizer = await tokenizerFromFile(file);
    if (tokenizer) return tokenizer;
    throw new HeedError("ERR_IO", `${file}: expected the tokenizer of the data, got no such file`);
  }

  /**
   * Copies `count` ids of the stream, starting with number `offset`, to the start of `out`.
   *
   * @throws ERR_RANGE if the ids are not all inside the data, or `out` is too short.
   * @throws ERR_DISPOSED if the data is closed.
   * @throws ERR_IO or ERR_FORMAT if a file cannot be read or has become shorter.
   */
  read(offset: number, count: number, out: Int32Array): void {
    this.#read("tokens", offset, count, out);
  }

  /**
   * Copies the mask of `count` tokens, starting with number `offset`, to the start of `out`: 1 for tokens that count for
   * the loss, otherwise 0.
   *
   * @throws ERR_RANGE, ERR_DISPOSED, ERR_IO or ERR_FORMAT as `read` does.
   */
  readMask(offset: number, count: number, out: Int32Array): void {
    if (this.kind !== "text") this.#read("mask", offset, count, out);
    else {
      this.#check(offset, count, out);
      out.fill(1, 0, count);
    }
  }

  #check(offset: number, count: number, out: Int32Array): void {
    checkInteger(this.folder, "offset", offset, 0, this.length);
    checkInteger(this.folder, "count", count, 0, Math.min(this.length - offset, out.length));
  }

  #read(part: "tokens" | "mask", offset: number, count: number, out: Int32Array): void {
    this.#check(offset, count, out);
    for (let done = 0, shard = shardOf(this.#tokensBefore, offset); done < count; shard++) {
      const from = offset + done - this.#tokensBefore[shard]!;
      const file = this.#files[shard]![part]!;
      const length = Math.min(count - done, file.length - from);
      file.read(from, length, out.subarray(done));
      done += length;
    }
  }

  /**
   * Returns the number of the stream's first token of a document. For `documents`, it is the end of the stream.
   *
   * @throws ERR_RANGE if there is no such document.
   * @throws ERR_FORMAT if the files contradict each other.
   */
  documentStart(document: number): number {
    checkInteger(this.folder, "document", document, 0, this.documents);
    return document === 0 ? 0 : this.#end(document - 1);
  }

  /**
   * Returns the number of the document that a token belongs to.
   *
   * @throws ERR_RANGE if there is no such token.
   */
  documentOf(token: number): number {
    checkInteger(this.folder, "token", token, 0, this.length - 1);
    const shard = shardOf(this.#tokensBefore, token);
    // Documents that end in the shard, and the one after them.
    let [low, high] = [this.#endsBefore[shard]!, this.#endsBefore[shard + 1]!];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#end(middle) > token) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /**
   * Returns the tokens of a document with their mask.
   *
   * @throws ERR_RANGE if there is no such document.
   * @throws ERR_IO or ERR_FORMAT if a file cannot be read or contradicts another.
   */
  document(index: number): TrainingExample {
    checkInteger(this.folder, "document", index, 0, this.documents - 1);
    const start = this.documentStart(index);
    return this.example(start, this.documentStart(index + 1) - start);
  }

  /** @internal Returns `count` tokens of the stream with their mask. */
  example(start: number, count: number): TrainingExample {
    const ids = new Int32Array(count);
    const mask = new Int32Array(count);
    this.read(start, count, ids);
    this.readMask(start, count, mask);
    return { ids, mask: Uint8Array.from(mask) };
  }

  /**
   * Returns a pair of answers, for `dpoLoss`. Pairs are counted from 0; there are half as many as documents.
   *
   * @throws ERR_ARGUMENT if the data set has no pairs.
   * @throws ERR_RANGE if there is no such pair.
   */
  pair(index: number): PreferencePair {
    if (this.kind !== "preference")
      throw new HeedError("ERR_ARGUMENT", `${this.folder}: expected data of pairs of answers, got kind "${this.kind}"`);
    checkInteger(this.folder, "pair", index, 0, this.documents / 2 - 1);
    return { chosen: this.document(2 * index), rejected: this.document(2 * index + 1) };
  }

  /** Returns the number of the stream's tokens before the end of a document. */
  #end(document: number): number {
    const shard = shardOf(this.#endsBefore, document);
    const within = document - this.#endsBefore[shard]!;
    const page = Math.floor(within / pageLength);
    const ends = this.#page(shard, page);
    const at = within % pageLength;
    const end = ends[at]!;
    if (end >= (at > 0 ? ends[at - 1]! : 0) && end <= this.index.shards[shard]!.tokens)
      return this.#tokensBefore[shard]! + end;
    const { path: file } = this.#files[shard]!.ends;
    throw new HeedError("ERR_FORMAT", `${file}: expected ends of documents in order, got ${end} at ${within}`);
  }

  #page(shard: number, page: number): Int32Array {
    const key = shard * 2 ** 21 + page;
    let ends = this.#pages.get(key);
    if (ends) this.#pages.delete(key);
    else {
      const { ends: file } = this.#files[shard]!;
      ends = new Int32Array(Math.min(pageLength, file.length - page * pageLength));
      file.read(page * pageLength, ends.length, ends);
      if (this.#pages.size >= mostPages) this.#pages.delete(this.#pages.keys().next().value!);
    }
    this.#pages.set(key, ends);
    return ends;
  }

  /** Closes the files. A second call does nothing. */
  close(): void {
    for (const { tokens, ends, mask } of this.#files) {
      tokens.close();
      ends?.close();
      mask?.close();
    }
  }

  /** Does the same as `close()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function readIndex(folder: string): ShardIndex {
  const file = path.join(folder, names.index);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT" && isShardFolder(folder))
      throw new HeedError("ERR_FORMAT", `${folder}: expected complete data, got a run that was stopped; continue it`);
    throw new HeedError("ERR_IO", `${file}: ${(cause as Error).message}`, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${file}: expected JSON: ${(cause as Error).message}`, { cause });
  }
  return indexOf(folder, json);
}

/** Returns the index of the last shard that begins at or before a number. Empty shards are passed over. */
function shardOf(before: readonly number[], number: number): number {
  let [low, high] = [0, before.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (before[middle]! <= number) low = middle;
    else high = middle;
  }
  return low;
}
