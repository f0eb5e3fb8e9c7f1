// The file to which a batch appends its answers. One run at a time may write to it, and it may not be the input: a run
// first removes an unfinished last line, and what it appends would be read as requests.
import { type FileHandle, open, realpath, rmdir, stat } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { type FolderLock, lockFolder } from "../formats/folder-lock.js";

/** Lock of the output of a batch, which `lockBatch` returns. */
export class BatchLock implements AsyncDisposable {
  /** @internal */
  constructor(
    /** Path of the output, links resolved. */
    readonly output: string,
    private readonly lock: FolderLock,
  ) {}

  /** Checks that the lock is still held; see `FolderLock.check`. */
  async check(): Promise<void> {
    await this.lock.check();
  }

  /** Releases the output. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.lock.release();
    // A run that was killed has left the folder behind.
    await rmdir(this.lock.folder).catch(() => undefined);
  }
}

/**
 * Locks the output of a batch, after checking that it is not the input.
 *
 * @example
 * // This downloads a model.
 * await using lock = await lockBatch("in.jsonl", "out.jsonl");
 * using model = await load("Qwen/Qwen3-0.6B", { kind: "causal" });
 * await runBatch("in.jsonl", "out.jsonl", { models: { qwen: model }, lock });
 *
 * @throws ERR_ARGUMENT if the output is the input, also by another name or a link.
 * @throws ERR_IO if the input does not exist, or one of them is something other than a file.
 * @throws ERR_BUSY if another run writes to the output.
 */
export async function lockBatch(input: string, output: string): Promise<BatchLock> {
  const from = await naming(input, () => stat(input, { bigint: true }));
  checkFile(input, from);
  const target = await naming(output, () => resolved(output));
  const to = await naming(output, () => stat(target, { bigint: true }).catch(ifGone));
  if (to) checkFile(output, to);
  if (target === (await naming(input, () => realpath(input))) || (to?.dev === from.dev && to.ino === from.ino))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${output}: expected another file for the output than for the input, got the same file as ${input}`,
    );
  return new BatchLock(target, await lockFolder(`${target}.lock`));
}

function checkFile(name: string, found: { isFile(): boolean }): void {
  // The input is read twice, and the output read and cut before it is continued.
  if (!found.isFile()) throw new HeedError("ERR_IO", `${name}: expected a file, got a folder, a pipe or a device`);
}

/** Returns the path of a file with all links resolved; the file itself need not exist. */
async function resolved(file: string): Promise<string> {
  const found = await realpath(file).catch(ifGone);
  return found ?? path.join(await realpath(path.dirname(path.resolve(file))), path.basename(file));
}

function ifGone(error: unknown): null {
  if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
  throw error;
}

/** Output of a batch that is open, and appended to line by line. */
export class BatchOutput implements AsyncDisposable {
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly name: string,
    private readonly lock: BatchLock,
    private readonly file: FileHandle,
    /** Number of bytes in the file. */
    private size: number,
  ) {}

  /** Opens the output, and removes the end of it that is no whole line. */
  static async open(name: string, lock: BatchLock): Promise<BatchOutput> {
    return naming(name, async () => {
      const file = await open(lock.output, "a+");
      try {
        await lock.check();
        const size = await lengthOfLines(file);
        await file.truncate(size);
        return new BatchOutput(name, lock, file, size);
      } catch (error) {
        await file.close();
        throw error;
      }
    });
  }

  /**
   * Appends a line, after those that are being appended.
   *
   * @throws ERR_BUSY if another program has written to the file.
   */
  async append(line: string): Promise<void> {
    const written = this.#writing.then(() => this.#append(Buffer.from(`${line}\n`)));
    this.#writing = written.catch(() => undefined);
    await written;
  }

  /** Waits until the lines are on the disk. */
  async sync(): Promise<void> {
    await naming(this.name, () => this.file.sync());
  }

  /** Closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
    await this.file.close();
  }

  async #append(bytes: Buffer): Promise<void> {
    await this.lock.check();
    const { size } = await naming(this.name, () => this.file.stat());
    // The lock is beside the file: a run that knows the file by another hard link does not find it.
    if (size !== this.size)
      throw new HeedError(
        "ERR_BUSY",
        `${this.name}: expected ${this.size} bytes, as this run has left it, got ${size}: another program writes to the file`,
      );
    await naming(this.name, () => this.file.appendFile(bytes));
    this.size += bytes.length;
  }
}

/** Resolves to the number of bytes of a file up to the end of its last line. */
async function lengthOfLines(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const piece = Buffer.alloc(2 ** 16);
  for (let end = size; end > 0; end -= piece.length) {
    const start = Math.max(0, end - piece.length);
    const { bytesRead } = await file.read(piece, 0, end - start, start);
    const at = piece.subarray(0, bytesRead).lastIndexOf(10);
    if (at !== -1) return start + at + 1;
  }
  return 0;
}
