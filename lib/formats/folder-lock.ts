// One writer of a folder at a time: a file `lock` in it says which process of which host writes. A process that was
// killed leaves its lock behind, which the next one removes: on the same host the process is gone, from any other host
// the lock has not been touched for a while. (Nothing else tells that a process of another host, or a thread of this
// process, has ended.)
import { randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { mkdir, open, readFile, rm, rmdir, stat, utimes } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";
import { host, isRunning, startOf } from "./processes.js";

/** How often a lock is touched, and after how long without a touch its owner is gone, in milliseconds. */
const beat = 15_000;
const patience = 120_000;

/** What a lock's file holds. */
interface Owner {
  pid: number;
  /** When the process began; null where the system does not tell. */
  start: string | null;
  host: string;
  /** Tells this lock from all others. */
  token: string;
}

/** The locks of this thread: their files, by their tokens. */
const held = new Map<string, string>();
let listening = false;

/** A folder that nobody else writes to until `release`. */
export class FolderLock {
  readonly #timer: NodeJS.Timeout;

  /** @internal */
  constructor(
    readonly folder: string,
    private readonly file: string,
    private readonly token: string,
    /** The first of the folders that were made for it. */
    private readonly made: string | undefined,
  ) {
    this.#timer = setInterval(() => {
      const now = new Date();
      utimes(file, now, now).catch(() => undefined);
    }, beat).unref();
  }

  /**
   * Lets the folder go; one that was made for the lock goes too where nothing was put into it. Never rejects: a file that
   * cannot be removed is a stale lock to the next one.
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

/**
 * Makes this thread the one that writes to a folder, which is made where there is none. Throws ERR_BUSY where another
 * run has it, ERR_IO where it cannot be written.
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  return naming(folder, async () => {
    const made = await mkdir(folder, { recursive: true });
    const file = path.join(folder, "lock");
    return new FolderLock(folder, file, await take(folder, file), made);
  });
}

/** Makes a lock's file, in the place of a stale one too; resolves to its token. */
async function take(folder: string, file: string): Promise<string> {
  for (;;) {
    const token = await create(file);
    if (token !== null) return token;
    const found = await readLock(file);
    if (found === null) continue;
    if (!found.stale) throw busy(folder, file, found.owner);
    // Removed by one at a time, and only while it is still the stale one: the next may be somebody's already.
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

/** The new lock's token; null where there is a lock already. */
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

/** Who holds a lock; null where there is none, or it does not say. */
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

/** A lock's owner, where it says, and whether it has left; null where there is no lock. */
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

/** At the process's end there is no time to wait for anything. */
function releaseAll(): void {
  for (const [token, file] of held)
    try {
      if (parse(readFileSync(file, "utf8"))?.token === token) rmSync(file, { force: true });
    } catch {
      // The next one finds it stale.
    }
}
