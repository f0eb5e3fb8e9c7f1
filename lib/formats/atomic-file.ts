// Files that are either the old or the new one, whole, whenever the process is killed or the power fails: written under
// a temporary name in the same folder, brought to the disk (fsync), and renamed, which POSIX makes atomic; then the
// folder, which holds the name, is brought to the disk as well. A killed process leaves its temporary file behind.
import { randomBytes } from "node:crypto";
import { open, readdir, rename, rm, stat, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { naming } from "../files.js";
import { checkFreeSpace } from "./free-space.js";
import { isRunning } from "./processes.js";

/** When this process began, in milliseconds since 1970. */
const processStart = Date.now() - process.uptime() * 1000;

/** A new name beside `target`, which says whose it is. */
export function temporaryName(target: string): string {
  return `${target}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`;
}

/** The process that made a temporary name; null for other names. */
export function temporaryOwner(name: string): number | null {
  const match = /\.tmp-(\d+)-[0-9a-f]{8}$/.exec(name);
  return match ? Number(match[1]) : null;
}

/** Characters of a text that are written at once: a millisecond's work. */
const pieceLength = 2 ** 17;

/** Replaces `file` by a text that is given in parts, as `writeFileAtomic` does. The event loop goes round in between. */
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
 * Replaces `file` by what `write` puts into the handle, at once and durably. If it fails, the old file stays and the
 * temporary one goes. Where there is no room for `bytes`, nothing is begun. Throws ERR_IO with the file's name.
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

/** Removes what killed processes left in a folder under temporary names. */
export async function removeStaleTemporaries(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const owner = temporaryOwner(name);
    if (owner === null) continue;
    const full = path.join(folder, name);
    // In a container a process often has the same number as the one before it: older than this process is stale.
    const stale = owner === process.pid ? (await stat(full)).mtimeMs < processStart : !isRunning(owner);
    if (stale) await rm(full, { recursive: true, force: true });
  }
}

/** Brings a file's bytes, or a folder's names, to the disk. */
export async function syncPath(name: string): Promise<void> {
  // Windows opens no folders; NTFS logs their changes itself.
  if (process.platform === "win32") return;
  const handle = await open(name, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
