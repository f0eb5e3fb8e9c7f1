// Makes sure that only one process or thread writes to a folder: the file `lock` in the folder says which process of
// which host holds it. A process that was killed leaves its lock behind, and the next one removes it. On the same host,
// a lock is stale if its process has ended. From another host, or from another thread of this process, it is stale if
// it has not been touched for a while, because nothing else shows that its owner has ended.
import { randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { mkdir, open, readFile, rm, rmdir, stat, utimes } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";
import { host, isRunning, startOf } from "./processes.js";

/** Interval in milliseconds at which a lock is touched. */
const beat = 15_000;
/** A lock that has not been touched for this many milliseconds is stale. */
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
    private readonly token: string,
    /** The outermost folder that was created for the lock. */
    private readonly made: string | undefined,
  ) {
    this.#timer = setInterval(() => {
      const now = new Date();
      utimes(file, now, now).catch(() => undefined);
    }, beat).unref();
  }

  /**
   * Releases the folder. If the folder was created for the lock and is still empty, it is removed. Never rejects: if
   * the lock file cannot be removed, it becomes a stale lock, which the next owner removes.
   */
  async release(): Promise<void> {
    clearInterval(this.#timer);
    if (!held.delete(this.token)) return;
    try {
      if ((await ownerOf(this.file))?.token === this.token) await rm(this.file);
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
    const file = path.join(folder, "lock");
    return new FolderLock(folder, file, await take(folder, file), made);
  });
}

/** Creates a lock file, after removing a stale one, and returns its token. */
async function take(folder: string, file: string): Promise<string> {
  for (;;) {
    const token = await create(file);
    if (token !== null) return token;
    const found = await readLock(file);
    if (found === null) continue;
    if (!found.stale) throw busy(folder, file, found.owner);
    // A second lock guards the removal, and the lock is checked again: by now it may belong to a new owner.
    const takeover = `${file}.takeover`;
    const guard = await take(folder, takeover);
    try {
      const now = await readLock(file);
      if (now?.stale && now.owner?.token === found.owner?.token) await rm(file);
    } finally {
      held.delete(guard);
      await rm(takeover, { force: true });
    }
  }
}

/** Creates a lock file and returns its token, or returns null if the file exists. */
async function create(file: string): Promise<string | null> {
  const owner: Owner = { pid: process.pid, start: startOf(process.pid), host, token: randomBytes(8).toString("hex") };
  const handle = await open(file, "wx").catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return null;
    throw error;
  });
  if (!handle) return null;
  try {
    await handle.writeFile(`${JSON.stringify(owner)}\n`);
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  if (!listening) process.once("exit", releaseAll);
  listening = true;
  held.set(owner.token, file);
  return owner.token;
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
  const untouched = Date.now() - touched.mtimeMs > patience;
  if (owner?.host !== host) return { owner, stale: untouched };
  const own = owner.pid === process.pid && owner.start === startOf(process.pid);
  if (own) return { owner, stale: !held.has(owner.token) && untouched };
  return { owner, stale: !isRunning(owner.pid, owner.start) };
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
