// Writes shards. What is on the disk counts only as far as progress.json says: a run that continues cuts the files to
// these lengths and goes on from there, so that it ends with the same bytes as a run that was never stopped.
import { createHash } from "node:crypto";
import { type FileHandle, open, readdir, rm } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { writeFileAtomic } from "../formats/atomic-file.js";
import type { FolderLock } from "../formats/folder-lock.js";
import { asBytes, writeFully } from "../formats/whole-io.js";
import type { TokenDType } from "./token-data.js";
import type { InputPlace } from "./blocks.js";
import type { EncodedBlock } from "./encode-block.js";
import { type DataStatistics, names, type ShardIndex } from "./shard-index.js";

/** Place that a run has reached, and what it has written. */
export interface ShardProgress {
  /** Place in the inputs of the first block that is not written. */
  position: InputPlace;
  shards: ShardIndex["shards"];
  statistics: DataStatistics;
  /** Number of tokens of the document that has begun but not ended. */
  open: number;
  hash: string;
}

/** Options of the writer. */
export interface ShardWriterOptions {
  readonly dtype: TokenDType;
  readonly masked: boolean;
  /** Number of tokens after which a new shard begins, at the end of a block. */
  readonly shardTokens: number;
  /** Lock of the folder, which is checked before each write. */
  readonly lock: FolderLock;
}

const sizes = { u8: 1, u16: 2, i32: 4 } as const;

/** Writer of the shards of a folder. */
export class ShardWriter implements AsyncDisposable {
  readonly progress: ShardProgress;
  #files: { tokens: FileHandle; ends: FileHandle; mask: FileHandle | null } | null = null;

  private constructor(
    private readonly folder: string,
    private readonly options: ShardWriterOptions,
    progress: ShardProgress,
  ) {
    this.progress = structuredClone(progress);
  }

  /** Opens the folder for a run that continues from `progress`. */
  static async open(folder: string, options: ShardWriterOptions, progress: ShardProgress): Promise<ShardWriter> {
    const writer = new ShardWriter(folder, options, progress);
    await options.lock.check();
    await naming(folder, () => writer.#removeOthers());
    if (progress.shards.length > 0) await writer.#openShard(progress.shards.length - 1);
    return writer;
  }

  /** Removes files of shards that an earlier run began after its last progress. */
  async #removeOthers(): Promise<void> {
    const count = this.progress.shards.length;
    for (const name of await readdir(this.folder)) {
      const [, number] = /^(?:tokens|ends|mask)-(\d{5,})\.bin$/.exec(name) ?? [];
      if (number !== undefined && Number(number) >= count) await rm(path.join(this.folder, name));
    }
  }

  /** Opens the files of a shard and cuts them to the lengths that count. */
  async #openShard(number: number): Promise<void> {
    await this.#close();
    const { tokens, documents } = this.progress.shards[number]!;
    const { dtype, masked } = this.options;
    const part = async (name: "tokens" | "ends" | "mask", length: number): Promise<FileHandle> => {
      const file = path.join(this.folder, names.shard(name, number));
      return naming(file, async () => {
        const handle = await open(file, "a");
        try {
          const { size } = await handle.stat();
          if (size < length)
            throw new HeedError(
              "ERR_FORMAT",
              `${file}: expected at least ${length} bytes of an earlier run, got ${size}`,
            );
          await handle.truncate(length);
          return handle;
        } catch (error) {
          await handle.close();
          throw error;
        }
      });
    };
    this.#files = {
      tokens: await part("tokens", tokens * sizes[dtype]),
      ends: await part("ends", documents * 4),
      mask: masked ? await part("mask", tokens) : null,
    };
  }

  /** Appends a block, which ends at a place of the inputs. */
  async write(block: EncodedBlock, to: InputPlace): Promise<void> {
    const { progress, options } = this;
    await options.lock.check();
    if (progress.shards.length === 0 || progress.shards.at(-1)!.tokens >= options.shardTokens) {
      await this.#flush();
      progress.shards.push({ tokens: 0, documents: 0 });
      await this.#openShard(progress.shards.length - 1);
    }
    const shard = progress.shards.at(-1)!;
    const { ids, mask, textBytes, bad, badAnswers } = block;
    const ends = block.ends.map((end) => end + shard.tokens);
    const { tokens: tokenFile, ends: endFile, mask: maskFile } = this.#files!;
    await naming(this.folder, async () => {
      await writeFully(tokenFile, asBytes(ids));
      await writeFully(endFile, asBytes(ends));
      if (maskFile && mask) await writeFully(maskFile, mask);
    });
    const { statistics } = progress;
    let from = -progress.open;
    for (const end of block.ends) {
      statistics.longest = Math.max(statistics.longest, end - from);
      from = end;
    }
    progress.open = ids.length - from;
    shard.tokens += ids.length;
    shard.documents += ends.length;
    statistics.documents += ends.length;
    statistics.tokens += ids.length;
    statistics.targets += mask ? mask.reduce((sum, counts) => sum + counts, 0) : ids.length;
    statistics.textBytes += textBytes;
    statistics.badLines += bad.length;
    statistics.badAnswers += badAnswers;
    const hash = createHash("sha256").update(progress.hash).update(asBytes(ids)).update(asBytes(block.ends));
    progress.hash = (mask ? hash.update(mask) : hash).digest("hex");
    progress.position = to;
  }

  /** Makes what is written durable, and notes it as the place at which a killed run continues. */
  async commit(settings: Record<string, unknown>): Promise<void> {
    await this.#flush();
    await this.options.lock.check();
    await writeFileAtomic(path.join(this.folder, names.progress), (handle) =>
      handle.writeFile(`${JSON.stringify({ settings, ...this.progress })}\n`),
    );
  }

  async #flush(): Promise<void> {
    if (!this.#files) return;
    const { tokens, ends, mask } = this.#files;
    await naming(this.folder, async () => {
      await Promise.all([tokens, ends, ...(mask ? [mask] : [])].map((handle) => handle.datasync()));
    });
  }

  async #close(): Promise<void> {
    if (!this.#files) return;
    const { tokens, ends, mask } = this.#files;
    this.#files = null;
    await tokens.close();
    await ends.close();
    await mask?.close();
  }

  /** Closes the files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
