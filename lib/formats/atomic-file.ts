// Writes files atomically: if the process is killed or the power fails, the file has its old or its new content, never
// a mix. The content is written under a temporary name in the same folder, flushed to the disk (fsync) and renamed,
// which POSIX makes atomic. Then the folder, which stores the name, is flushed too. A killed process leaves its
// temporary file behind.
import { randomBytes } from "node:crypto";
import { constants, copyFile, type FileHandle, link, open, readdir, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { naming } from "../util/files.js";
import { checkFreeSpace } from "./free-space.js";
import { isRunning } from "./processes.js";

/** Time at which this process started, in milliseconds since 1970. */
const processStart = Date.now() - process.uptime() * 1000;

/** Returns a new name beside `target` that contains the number of this process. */
export function temporaryName(target: string): string {
  return `${target}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`;
}

/** Returns the number of the process that made a temporary name, or null for other names. */
export function temporaryOwner(name: string): number | null {
  const match = /\.tmp-(\d+)-[0-9a-f]{8}$/.exec(name);
  return match ? Number(match[1]) : null;
}

/** Number of characters to write at once, which takes about a millisecond. */
const pieceLength = 2 ** 17;

/**
 * Replaces `file` by a text, which is given in parts, as `writeFileAtomic` does. Other events are handled between the
 * writes.
 */
export async function writeTextAtomic(file: string, parts: readonly string[]): Promise<void> {
  await writeFileAtomic(file, async (handle) => {
    let piece = "";
    for (const part of parts) {
      piece += part;
      if (piece.length < pieceLength) continue;
      await handle.writeFile(piece);
      piece = "";
    }
    await handle.writeFile(piece);
  });
}

/**
 * Replaces `file`, atomically and durably, by what `write` writes to the handle. If this fails, the old file stays and
 * the temporary file is removed. If the disk has no room for `bytes` bytes, nothing is written.
 *
 * @throws ERR_IO if the file cannot be written; the message names it.
 */
export async function writeFileAtomic(
  file: string,
  write: (handle: FileHandle) => Promise<void>,
  { bytes = 0 }: { bytes?: number } = {},
): Promise<void> {
  const temporary = temporaryName(file);
  await naming(file, async () => {
    await checkFreeSpace(path.dirname(file), bytes, file);
    const handle = await open(temporary, "wx");
    try {
      try {
        await write(handle);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await syncPath(path.dirname(file));
  });
}

/** Removes the temporary files that killed processes have left in a folder: all, or those that were to become `target`. */
export async function removeStaleTemporaries(folder: string, target?: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const owner = temporaryOwner(name);
    if (owner === null || (target !== undefined && !name.startsWith(`${target}.tmp-`))) continue;
    const full = path.join(folder, name);
    // In a container, a process often has the same number as its predecessor: a file older than this process is then
    // stale.
    const stale = owner === process.pid ? await isOlder(full) : !isRunning(owner);
    if (stale) await rm(full, { recursive: true, force: true });
  }
}

/** Gives a file a second name, or makes a copy where the file system has no hard links. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const without = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK", "EXDEV", "EINVAL", "EACCES"];
    if (!without.includes((error as NodeJS.ErrnoException).code!)) throw error;
    await copyFile(from, to, constants.COPYFILE_EXCL);
    await syncPath(to);
  }
}

/** Returns true if a file was written before this process started, and false if it is gone meanwhile. */
async function isOlder(file: string): Promise<boolean> {
  try {
    return (await stat(file)).mtimeMs < processStart;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** Flushes the bytes of a file, or the names in a folder, to the disk. */
export async function syncPath(name: string): Promise<void> {
  // Windows cannot open a folder; NTFS records changes of folders in its own log.
  if (process.platform === "win32") return;
  const handle = await open(name, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
