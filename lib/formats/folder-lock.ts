// Makes sure that only one process or thread writes to a folder: the file `lock` in the folder says which process of
// which host holds it. A process that was killed leaves its lock behind, and the next one removes it. On the same host,
// a lock is stale if its process has ended. From another host, or from another thread of this process, it is stale if
// it has not been written for a while, because nothing else shows that its owner has ended.
//
// That can be wrong: an owner may have slept, or have been cut off from the disk. So a lock contains a random token, and
// its owner looks before each write whether the token is still there. No clock of a host counts: when a lock was written
// and what time it is now are both told by the file system.
import { randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { type FileHandle, mkdir, open, readFile, rm, rmdir, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { exists, naming } from "../util/files.js";
import { linkOrCopy, removeStaleTemporaries, temporaryName } from "./atomic-file.js";
import { host, isRunning, startOf } from "./processes.js";

/** Interval in milliseconds at which a lock is written again. */
const beat = 15_000;
/** A lock that has not been written for this many milliseconds is stale. */
const patience = 120_000;

/** Content of a lock file. */
interface Owner {
  pid: number;
  /** When the process started, as `startOf` returns it, or null if the system does not tell. */
  start: string | null;
  host: string;
  /** Random text that identifies this lock. */
  token: string;
}

/** A lock file that this thread has created. */
interface OwnFile {
  token: string;
  text: string;
  /** Handle of the file. If another owner replaces the file, this handle still belongs to the old one. */
  handle: FileHandle;
}

/** Locks that this thread holds: their files, by token. */
const held = new Map<string, string>();
let listening = false;

/**
 * An exclusive lock on a folder, held until `release` is called. `lockFolder` creates it.
 *
 * @example
 * await using lock = await lockFolder("runs/whale");
 * const folder = lock.folder; // "runs/whale": other runs get ERR_BUSY until the end of this block
 */
export class FolderLock {
  readonly #timer: NodeJS.Timeout;

  /** @internal */
  constructor(
    /** The locked folder. */
    readonly folder: string,
    private readonly file: string,
    private readonly own: OwnFile,
    /** The outermost folder that was created for the lock. */
    private readonly made: string | undefined,
  ) {
    this.#timer = setInterval(() => {
      // The same bytes again: the file system then notes its own time.
      own.handle
        .write(own.text, 0)
        .then(() => own.handle.datasync())
        .catch(() => undefined);
    }, beat).unref();
  }

  /**
   * Checks that the folder is still locked by this lock. Call it before each write to the folder: if the process slept
   * or was cut off from the disk, another one may have taken the lock for stale and written to the folder.
   *
   * @throws ERR_BUSY if another owner has taken the lock, or the lock was released or removed.
   * @throws ERR_IO if the lock cannot be read.
   */
  async check(): Promise<void> {
    const found = await naming(this.file, async () => readFile(this.file, "utf8").catch(ifGone));
    this.#checkText(found);
  }

  /** Does the same as `check()` at once, for writers that do not wait. */
  checkSync(): void {
    let found: string | null;
    try {
      found = readFileSync(this.file, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        throw new HeedError("ERR_IO", `${this.file}: ${(error as Error).message}`, { cause: error });
      found = null;
    }
    this.#checkText(found);
  }

  #checkText(found: string | null): void {
    const owner = parse(found ?? "");
    if (owner?.token === this.own.token && held.has(this.own.token)) return;
    const got = owner ? `that of process ${owner.pid} of ${owner.host}` : "none";
    throw new HeedError(
      "ERR_BUSY",
      `${this.folder}: expected ${this.file} to be the lock of this run still, got ${got}; this run writes nothing more, so that two runs do not mix`,
    );
  }

  /**
   * Releases the folder. If the folder was created for the lock and is still empty, it is removed. Never rejects: if
   * the lock file cannot be removed, it becomes a stale lock, which the next owner removes.
   */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    if (!held.delete(this.own.token)) return;
    try {
      await this.own.handle.close();
      if ((await ownerOf(this.file))?.token === this.own.token) await rm(this.file);
      if (this.made === undefined) return;
      for (let at = path.resolve(this.folder); ; at = path.dirname(at)) {
        await rmdir(at);
        if (at === path.resolve(this.made)) return;
      }
    } catch {
      // The folder is in use, or its disk has failed.
    }
  }

  /** Does the same as `release()`, at the end of the block that declares it with `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

/**
 * Locks a folder for writing, for this thread only. The folder is created if it does not exist.
 *
 * @example
 * await using lock = await lockFolder("runs/shark");
 *
 * @throws ERR_BUSY if another run has locked the folder; the message names its process.
 * @throws ERR_IO if the folder cannot be written.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  return naming(folder, async () => {
    const made = await mkdir(folder, { recursive: true });
    await removeStaleTemporaries(folder, "lock");
    const file = path.join(folder, "lock");
    return new FolderLock(folder, file, await take(folder, file), made);
  });
}

/** Creates a lock file, after removing a stale one. */
async function take(folder: string, file: string): Promise<OwnFile> {
  for (;;) {
    const takeover = `${file}.takeover`;
    const own = await create(file);
    if (own !== null) {
      // A process that was killed in a takeover has left its second lock, which guards nothing any more.
      if ((await readLock(takeover))?.stale) await rm(takeover, { force: true });
      return own;
    }
    const found = await readLock(file);
    if (found === null) continue;
    if (!found.stale) throw busy(folder, file, found.owner);
    // A second lock guards the removal, and the lock is checked again: by now it may belong to a new owner.
    const guard = await take(folder, takeover);
    try {
      const now = await readLock(file);
      if (now?.stale && now.owner?.token === found.owner?.token) await rm(file);
    } finally {
      held.delete(guard.token);
      await guard.handle.close();
      await rm(takeover, { force: true });
    }
  }
}

/**
 * Creates a lock file, or returns null if the file exists. The file gets its name when its content is complete, so that a
 * process that is killed meanwhile leaves no lock whose owner nobody knows.
 */
async function create(file: string): Promise<OwnFile | null> {
  const token = randomBytes(8).toString("hex");
  const owner: Owner = { pid: process.pid, start: startOf(process.pid), host, token };
  const text = `${JSON.stringify(owner)}\n`;
  const temporary = temporaryBeside(file);
  try {
    await writeFile(temporary, text, { flag: "wx" });
    await linkOrCopy(temporary, file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // Somebody has the lock, or has taken the temporary file for that of a process that has ended.
    if (code === "EEXIST" || (code === "ENOENT" && (await exists(path.dirname(file))))) return null;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  try {
    const handle = await open(file, "r+");
    if (!listening) process.once("exit", releaseAll);
    listening = true;
    held.set(token, file);
    return { token, text, handle };
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  }
}

/** Returns a new name of a temporary file beside a lock. `lockFolder` removes those of killed processes. */
function temporaryBeside(file: string): string {
  return temporaryName(path.join(path.dirname(file), "lock"));
}

/** Returns the owner of a lock, or null if there is no lock or its file has other content. */
async function ownerOf(file: string): Promise<Owner | null> {
  return parse((await readFile(file, "utf8").catch(ifGone)) ?? "");
}

function parse(text: string): Owner | null {
  try {
    const { pid, start, host, token } = JSON.parse(text) as Record<string, unknown>;
    const known = Number.isSafeInteger(pid) && typeof host === "string" && typeof token === "string";
    return known ? { pid: pid as number, start: typeof start === "string" ? start : null, host, token } : null;
  } catch {
    return null;
  }
}

/**
 * Returns the owner of a lock, if its file names one, and whether the lock is stale. Returns null if there is no lock.
 */
async function readLock(file: string): Promise<{ owner: Owner | null; stale: boolean } | null> {
  const touched = await stat(file).catch(ifGone);
  if (touched === null) return null;
  const owner = await ownerOf(file);
  const isOld = async (): Promise<boolean> => (await timeBeside(file)) - touched.mtimeMs > patience;
  if (owner?.host !== host) return { owner, stale: await isOld() };
  const own = owner.pid === process.pid && owner.start === startOf(process.pid);
  if (own) return { owner, stale: !held.has(owner.token) && (await isOld()) };
  return { owner, stale: !isRunning(owner.pid, owner.start) };
}

/** Returns the time of a lock's file system, which may have another clock than this host. */
async function timeBeside(file: string): Promise<number> {
  const probe = temporaryBeside(file);
  try {
    await writeFile(probe, "\n", { flag: "wx" });
    return (await stat(probe)).mtimeMs;
  } catch {
    // A lock that cannot be replaced has no use for the time.
    return Date.now();
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}

function ifGone(error: unknown): null {
  if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
  throw error;
}

function busy(folder: string, file: string, owner: Owner | null): HeedError {
  const who = owner ? `process ${owner.pid} of ${owner.host} writes to` : "another run has locked";
  return new HeedError(
    "ERR_BUSY",
    `${folder}: expected a folder that no other run writes to, got one that ${who}; if that run has ended, remove ${file}`,
  );
}

/** Removes this thread's locks when the process exits. It is synchronous, because nothing can be awaited then. */
function releaseAll(): void {
  for (const [token, file] of held)
    try {
      if (parse(readFileSync(file, "utf8"))?.token === token) rmSync(file, { force: true });
    } catch {
      // The next owner finds the lock stale.
    }
}
