// Replaces files of a folder by others, all or none. The folder itself is never renamed or removed: it may be a mount
// point or contain further files. The new files must be in a subfolder of it, because a rename cannot move a file to
// another disk.
//
// One file, the key, makes the others useful. It is removed first and moved into place last, so that a folder with its
// key is complete. While the key is missing, a complete copy of the old files is in `replacing/before`: hard links, which
// take no room. A reader finds them there at once, and the next replacement puts them back before it begins.
//
//   folder/config.json               the key
//   folder/model.safetensors
//   folder/replacing/lock            only one process replaces files at a time
//   folder/replacing/before/         the old files, as long as the key may be missing
import { lstat, mkdir, readdir, readlink, rename, rm, rmdir, symlink } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { exists } from "../util/files.js";
import { linkOrCopy, syncPath, temporaryName } from "./atomic-file.js";
import { type FolderLock, lockFolder } from "./folder-lock.js";

export interface ReplaceFilesOptions {
  /** Returns true if a file of the folder is to be replaced. */
  replaces: (name: string) => boolean;
  /** Name of the file without which the others are useless. It is removed first and moved into place last. */
  key: string;
}

/** Subfolder that exists while files are replaced. */
const place = "replacing";

/**
 * Moves the files of `temporary`, a subfolder of `folder`, into `folder`. Removes `temporary` and the files that the
 * new ones replace. If a step fails, the old files are put back and `temporary` is removed.
 *
 * If the process is killed meanwhile, the folder has all new files, all old files, or no file named `key`. In the last
 * case, `replacedFolder` finds the old files, and the next call puts them back before it begins.
 *
 * @throws ERR_BUSY if another process replaces files of the folder.
 * @throws ERR_IO if the old files cannot be put back; the message says where they are.
 */
export async function replaceFiles(folder: string, temporary: string, options: ReplaceFilesOptions): Promise<void> {
  try {
    const lock = await lockFolder(path.join(folder, place));
    try {
      await putBack(folder, lock, options);
      await replace(folder, temporary, lock, options);
    } finally {
      await lock.release();
      // A process that was killed has left the folder behind. With old files in it, it stays.
      await rmdir(lock.folder).catch(() => undefined);
    }
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Resolves to the subfolder with a complete copy of the old files if a process that replaced them was killed halfway, and
 * to null if the folder is complete or never was.
 */
export async function replacedFolder(folder: string, key: string): Promise<string | null> {
  const before = path.join(folder, place, "before");
  if ((await exists(path.join(folder, key))) || !(await exists(path.join(before, key)))) return null;
  return before;
}

async function replace(
  folder: string,
  temporary: string,
  lock: FolderLock,
  { replaces, key }: ReplaceFilesOptions,
): Promise<void> {
  const names = await readdir(temporary);
  const old = (await filesOf(folder)).filter((name) => replaces(name) || names.includes(name));
  const before = await keep(folder, old, lock);
  /** Names of files that are no longer as they were. */
  const changed = new Set<string>();
  try {
    await lock.check();
    await rm(path.join(folder, key), { force: true });
    changed.add(key);
    await syncPath(folder);
    for (const name of names.filter((name) => name !== key)) {
      await lock.check();
      await rename(path.join(temporary, name), path.join(folder, name));
      changed.add(name);
    }
    for (const name of old.filter((name) => !names.includes(name))) {
      await lock.check();
      await rm(path.join(folder, name), { force: true });
      changed.add(name);
    }
    await syncPath(folder);
    await lock.check();
    if (names.includes(key)) await rename(path.join(temporary, key), path.join(folder, key));
    await syncPath(folder);
  } catch (error) {
    // Another process has taken the lock, and puts the old files back itself.
    if (error instanceof HeedError && error.code === "ERR_BUSY") throw error;
    try {
      if (changed.has(key)) await rm(path.join(folder, key), { force: true });
      await putBack(folder, lock, { replaces: (name) => changed.has(name), key }, changed);
    } catch (cause) {
      const { message } = error as Error;
      throw new HeedError("ERR_IO", `${folder}: ${message}; the files that were there are now in ${before}`, {
        cause,
      });
    }
    throw error;
  }
  await drop(before);
  await rm(temporary, { recursive: true, force: true });
}

/** Keeps copies of files in a subfolder that has its name only when it is complete. Resolves to its path. */
async function keep(folder: string, names: readonly string[], lock: FolderLock): Promise<string> {
  const before = path.join(folder, place, "before");
  // Whatever is there is incomplete, or the folder is complete without it.
  await drop(before);
  for (const name of await readdir(lock.folder))
    if (name.startsWith("before.")) await rm(path.join(lock.folder, name), { recursive: true, force: true });
  const incomplete = temporaryName(before);
  await mkdir(incomplete);
  for (const name of names) await copy(path.join(folder, name), path.join(incomplete, name));
  await syncPath(incomplete);
  await lock.check();
  await rename(incomplete, before);
  await syncPath(lock.folder);
  return before;
}

/**
 * Puts the old files back if the key is missing, and removes their copies. `changed` has the names of those that need it;
 * without it, all are put back.
 */
async function putBack(
  folder: string,
  lock: FolderLock,
  { replaces, key }: ReplaceFilesOptions,
  changed: ReadonlySet<string> | null = null,
): Promise<void> {
  const before = path.join(folder, place, "before");
  if (!(await exists(before))) return;
  if (!(await exists(path.join(folder, key)))) {
    const names = await readdir(before);
    for (const name of await filesOf(folder))
      if (replaces(name) && !names.includes(name)) {
        await lock.check();
        await rm(path.join(folder, name), { force: true });
      }
    const keyLast = names.sort((a, b) => Number(a === key) - Number(b === key));
    for (const name of keyLast.filter((name) => changed?.has(name) ?? true)) {
      if (name === key) await syncPath(folder);
      await lock.check();
      const again = temporaryName(path.join(folder, name));
      await copy(path.join(before, name), again);
      await rename(again, path.join(folder, name));
      // If both names are links to one file, a rename leaves both.
      await rm(again, { force: true });
    }
    await syncPath(folder);
  }
  await drop(before);
}

/** Removes a folder. It is renamed first, so that a partly removed copy is never taken for a complete one. */
async function drop(before: string): Promise<void> {
  if (!(await exists(before))) return;
  const doomed = temporaryName(before);
  await rename(before, doomed);
  await rm(doomed, { recursive: true, force: true });
}

/** Makes a second name for a file, or a copy where the file system has no hard links. */
async function copy(from: string, to: string): Promise<void> {
  if ((await lstat(from)).isSymbolicLink()) {
    // A relative link would lead elsewhere from another folder.
    await symlink(path.resolve(path.dirname(from), await readlink(from)), to);
    return;
  }
  await linkOrCopy(from, to);
}

/** Returns the names of everything in a folder that is not a folder. */
async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
}
