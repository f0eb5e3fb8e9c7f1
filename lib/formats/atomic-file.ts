// Files that are either the old or the new one, whole, whenever the process is killed or the power fails: written under
// a temporary name in the same folder, brought to the disk (fsync), and renamed, which POSIX makes atomic; then the
// folder, which holds the name, is brought to the disk as well. A killed process leaves its temporary file behind.
import { randomBytes } from "node:crypto";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import path from "node:path";
import { naming } from "../files.js";

/** A new name beside `target`, which says whose it is. */
export function temporaryName(target: string): string {
  return `${target}.tmp-${process.pid}-${randomBytes(4).toString("hex")}`;
}

/** The process that made a temporary name; null for other names. */
export function temporaryOwner(name: string): number | null {
  const match = /\.tmp-(\d+)-[0-9a-f]{8}$/.exec(name);
  return match ? Number(match[1]) : null;
}

/**
 * Replaces `file` by what `write` puts into the handle, at once and durably. If it fails, the old file stays and the
 * temporary one goes. Throws ERR_IO with the file's name.
 */
export async function writeFileAtomic(file: string, write: (handle: FileHandle) => Promise<void>): Promise<void> {
  const temporary = temporaryName(file);
  await naming(file, async () => {
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
