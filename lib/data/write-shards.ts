// Tokenises files to shards: the calling thread reads the files, worker threads encode them, and the calling thread writes
// the tokens in the order of the input.
import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import path from "node:path";
import { checkChoice, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { exists, readJsonFile } from "../util/files.js";
import { writeFileAtomic } from "../formats/atomic-file.js";
import { type FolderLock, lockFolder } from "../formats/folder-lock.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { withChatTemplate } from "./chat-examples.js";
import { type BadLine, tooManyBadLines } from "./bad-lines.js";
import { valuesOf } from "./block-text.js";
import { type Block, type BlockOptions, blocksOf, start } from "./blocks.js";
import { dtypeOf, type EncodedBlock } from "./encode-block.js";
import { EncodePool } from "./encode-pool.js";
import { type DataFile, findInputs, type InputOptions } from "./inputs.js";
import { type DataKind, dataKinds, dataRecord, kindOf } from "./records.js";
import { type DataStatistics, indexOf, indexText, names, type ShardIndex } from "./shard-index.js";
import { type ShardProgress, ShardWriter } from "./shard-writer.js";

/** Options of `writeShards`. */
export interface WriteShardsOptions extends InputOptions {
  /** Folder of the shards. If a run was stopped there, it is continued. */
  out: string;
  /** Tokenizer of the texts. It is saved with the shards. */
  tokenizer: Tokenizer;
  /** Kind of the data set. @default what the first record is */
  kind?: DataKind | undefined;
  /** Text between the documents of a text file, such as "\n". @default null (a text file is one document) */
  separator?: string | null | undefined;
  /** Name of the field or column with texts. @default "text" */
  textColumn?: string | undefined;
  /** Number of threads that encode; 0 encodes in the calling thread. @default the number of CPU cores, at most 16 */
  threads?: number | undefined;
  /** Number of tokens after which a new shard begins. @default 2^26 */
  shardTokens?: number | undefined;
  /** Number of bytes of text in a block, the unit of work of a thread. @default 2^20 */
  blockBytes?: number | undefined;
  /** Milliseconds between two notes of the place at which a killed run continues. @default 1000 */
  commitInterval?: number | undefined;
  /** Number of malformed lines that are left out; one more ends the run with ERR_FORMAT. @default 0 */
  maxBadLines?: number | undefined;
  /** Called for each line that is left out. */
  onBadLine?: (bad: BadLine & { file: string }) => void;
  /** Called after each block, about a megabyte of text. */
  onProgress?: (progress: DataProgress) => void;
  /** Signal that stops the run, which can be continued later. */
  signal?: AbortSignal | undefined;
}

/** Progress of `writeShards`. */
export interface DataProgress extends DataStatistics {
  /** Path of the file that is being read. */
  file: string;
  /** Number of files that are read. */
  filesDone: number;
  /** Number of files. */
  files: number;
}

/**
 * Tokenises files to a folder of shards, which `TokenShards` reads by position. Files are read as streams, so that the
 * use of memory does not depend on their size. A run that was stopped or killed continues from where it was, and the
 * folder ends up with the same bytes. If the folder is complete, nothing is done.
 *
 * @returns The numbers of the data set.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * await writeFile("lines.jsonl", '{"text": "Call me Ishmael."}\n{"text": "Some years ago"}\n');
 * const { documents, tokens } = await writeShards("lines.jsonl", { out: "shards", tokenizer, threads: 0 });
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid, or the folder contains another data set.
 * @throws ERR_IO if a file cannot be read or written, or a package for its format is not installed.
 * @throws ERR_FORMAT if there are more malformed lines than `maxBadLines`, or a file is damaged.
 * @throws ERR_BUSY if another run writes to the folder, or has taken its lock meanwhile.
 * @throws The signal's reason if it is aborted.
 */
export async function writeShards(
  inputs: string | readonly string[],
  options: WriteShardsOptions,
): Promise<DataStatistics> {
  const settings = checkOptions(options);
  const { out, signal } = options;
  signal?.throwIfAborted();
  const files = await findInputs(inputs, options);
  const { separator, textColumn } = settings;
  const kind = options.kind ?? (await firstKind(files, { separator, textColumn }));
  const tokenizer = kind === "text" ? options.tokenizer : withChatTemplate(options.tokenizer);
  const run = new Run(options, { ...settings, kind, tokenizer, files });
  await using lock = await lockFolder(out);
  return await run.run(lock);
}

interface Settings {
  separator: string | null;
  textColumn: string;
  threads: number;
  shardTokens: number;
  blockBytes: number;
  commitInterval: number;
  maxBadLines: number;
}

const op = "writeShards";

function checkOptions(options: WriteShardsOptions): Settings {
  checkObject(op, "options", options);
  const { out, tokenizer, kind, separator = null, textColumn = "text" } = options;
  const expected = (what: string, got: unknown): HeedError =>
    new HeedError("ERR_ARGUMENT", `${op}: expected ${what}, got ${describe(got)}`);
  if (typeof out !== "string" || out === "") throw expected("out to be the path of a folder", out);
  if (typeof (tokenizer as Tokenizer | undefined)?.encode !== "function")
    throw expected("tokenizer to be a tokenizer", tokenizer);
  if (kind !== undefined) checkChoice(op, "kind", kind, dataKinds);
  if (separator !== null && (typeof separator !== "string" || separator === ""))
    throw expected("separator to be a text that is not empty, or null", separator);
  if (typeof textColumn !== "string" || textColumn === "") throw expected("textColumn to be a name", textColumn);
  const { threads = Math.min(16, availableParallelism()), shardTokens = 2 ** 26, maxBadLines = 0 } = options;
  checkInteger(op, "threads", threads, 0, 1024);
  // Ends of documents within a shard are i32.
  checkInteger(op, "shardTokens", shardTokens, 1, 2 ** 30);
  checkInteger(op, "maxBadLines", maxBadLines, 0);
  const { blockBytes = 2 ** 20, commitInterval = 1000 } = options;
  checkInteger(op, "blockBytes", blockBytes, 16, 2 ** 28);
  checkNumber(op, "commitInterval", commitInterval, 0);
  return { separator, textColumn, threads, shardTokens, blockBytes, commitInterval, maxBadLines };
}

/** Resolves to the kind of the first record; "text" if there is none. */
async function firstKind(files: readonly DataFile[], options: BlockOptions): Promise<DataKind> {
  for await (const block of blocksOf(files, { ...options, blockBytes: 2 ** 16 })) {
    if (block.kind === "text") return "text";
    for (const [, parse] of valuesOf(block, []))
      try {
        return kindOf(dataRecord(parse(), options.textColumn ?? undefined));
      } catch (error) {
        // A malformed line is reported later.
        if (!(error instanceof HeedError || error instanceof SyntaxError)) throw error;
      }
  }
  return "text";
}

/** One run of `writeShards`. */
class Run {
  readonly #identity: Record<string, unknown>;
  readonly #index: Pick<ShardIndex, "kind" | "dtype" | "vocabularySize" | "inputs">;

  constructor(
    private readonly options: WriteShardsOptions,
    private readonly settings: Settings & { kind: DataKind; tokenizer: Tokenizer; files: readonly DataFile[] },
  ) {
    const { tokenizer, files, kind, separator, textColumn, shardTokens, blockBytes } = settings;
    const { vocabularySize } = tokenizer;
    this.#index = {
      kind,
      dtype: dtypeOf(vocabularySize),
      vocabularySize,
      inputs: files.map(({ path: name, size }) => ({ name, size })),
    };
    const tokenizerHash = createHash("sha256").update(JSON.stringify(tokenizer.toJSON())).digest("hex");
    const inputs = files.map(({ path: name, size, modified }) => ({ name: path.resolve(name), size, modified }));
    this.#identity = { kind, separator, textColumn, shardTokens, blockBytes, tokenizer: tokenizerHash, inputs };
  }

  async run(lock: FolderLock): Promise<DataStatistics> {
    const { folder } = lock;
    const progress = await this.#earlier(folder);
    if ("complete" in progress) return progress.complete;
    const { tokenizer, kind, shardTokens } = this.settings;
    if (progress.position === start) await this.#writeTokenizer(folder, tokenizer);
    const { dtype } = this.#index;
    await using writer = await ShardWriter.open(
      folder,
      { dtype, masked: kind !== "text", shardTokens, lock },
      progress,
    );
    await this.#encodeTo(writer);
    await writer.commit(this.#identity);
    const { shards, statistics, hash } = writer.progress;
    const index = indexText({ ...this.#index, shards, statistics, hash });
    await lock.check();
    await writeFileAtomic(path.join(folder, names.index), (handle) => handle.writeFile(index));
    return statistics;
  }

  /**
   * Resolves to the progress of an earlier run, or to its result if it is complete. The file of the progress stays, as
   * it says from what the shards were made.
   */
  async #earlier(folder: string): Promise<ShardProgress | { complete: DataStatistics }> {
    const file = path.join(folder, names.progress);
    const empty = { documents: 0, tokens: 0, targets: 0, textBytes: 0, longest: 0, badLines: 0, badAnswers: 0 };
    const complete = await exists(path.join(folder, names.index));
    if (!complete && !(await exists(file)))
      return { position: start, shards: [], statistics: empty, open: 0, hash: "" };
    const found = (await readJsonFile(file)) as { settings?: Record<string, unknown> } & ShardProgress;
    for (const [name, value] of Object.entries(this.#identity))
      if (JSON.stringify(found.settings?.[name]) !== JSON.stringify(value))
        throw new HeedError(
          "ERR_ARGUMENT",
          `${folder}: expected a folder without data, or with data of the same ${name}, got another one; choose another folder or remove this one`,
        );
    // Earlier versions of heed did not count bad answers.
    if (!complete) return { ...found, statistics: { ...empty, ...found.statistics } };
    const index = indexOf(folder, await readJsonFile(path.join(folder, names.index)));
    return { complete: index.statistics };
  }

  async #writeTokenizer(folder: string, tokenizer: Tokenizer): Promise<void> {
    const json = JSON.stringify(tokenizer.toJSON());
    await writeFileAtomic(path.join(folder, names.tokenizer), (handle) => handle.writeFile(json));
  }

  async #encodeTo(writer: ShardWriter): Promise<void> {
    const { tokenizer, files, kind, separator, textColumn, threads, blockBytes, commitInterval } = this.settings;
    const { signal } = this.options;
    const pool = new EncodePool(tokenizer, { kind, separator, textColumn, dtype: this.#index.dtype }, threads);
    const waiting: { block: Pick<Block, "from" | "to">; encoded: Promise<EncodedBlock> }[] = [];
    let committed = performance.now();
    const writeFirst = async (): Promise<void> => {
      const { block, encoded } = waiting.shift()!;
      const { from, to } = block;
      await this.#write(writer, await encoded, { from, to });
      if (performance.now() - committed < commitInterval) return;
      await writer.commit(this.#identity);
      committed = performance.now();
    };
    try {
      for await (const block of blocksOf(files, { separator, textColumn, blockBytes }, writer.progress.position)) {
        const encoded = pool.encode(block);
        // If an earlier block fails, this promise is never awaited.
        encoded.catch(() => undefined);
        waiting.push({ block: { from: block.from, to: block.to }, encoded });
        if (waiting.length >= pool.depth) await writeFirst();
        signal?.throwIfAborted();
      }
      while (waiting.length > 0) await writeFirst();
    } catch (error) {
      // What is written stays for the next run, unless the disk has failed.
      await writer.commit(this.#identity).catch(() => undefined);
      throw error;
    } finally {
      await pool.close();
    }
  }

  async #write(writer: ShardWriter, encoded: EncodedBlock, block: Pick<Block, "from" | "to">): Promise<void> {
    const { files, maxBadLines } = this.settings;
    const { onBadLine, onProgress } = this.options;
    const { path: file } = files[block.from.file]!;
    const before = writer.progress.statistics.badLines;
    for (const [i, bad] of encoded.bad.entries()) {
      onBadLine?.({ ...bad, file });
      const count = before + i + 1;
      if (count > maxBadLines) throw tooManyBadLines(count, maxBadLines, `${file}:${bad.line}: ${bad.message}`);
    }
    await writer.write(encoded, block.to);
    onProgress?.({ ...writer.progress.statistics, file, filesDone: block.to.file, files: files.length });
  }
}
