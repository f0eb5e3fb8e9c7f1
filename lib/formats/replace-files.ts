// Replaces files of a folder by others, all or none. The folder itself is never renamed or removed: it may be a mount
// point or contain further files. The new files must be in a subfolder of it, because a rename cannot move a file to
// another disk.
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../errors.js";
import { syncPath } from "./atomic-file.js";

export interface ReplaceFilesOptions {
  /** Returns true if a file of the folder is to be replaced. */
  replaces: (name: string) => boolean;
  /** Name of the file without which the others are useless. It is removed first and moved into place last. */
  key: string;
}

/**
 * Moves the files of `temporary`, a subfolder of `folder`, into `folder`. Removes `temporary` and the files that the
 * new ones replace. If a step fails, the old files are put back and `temporary` is removed.
 *
 * If the process is killed meanwhile, the folder has all old files, all new files, or no file named `key`. In the last
 * case, `temporary` contains the missing files.
 *
 * @throws ERR_IO if the old files cannot be put back; the message says where they are.
 */
export async function replaceFiles(
  folder: string,
  temporary: string,
  { replaces, key }: ReplaceFilesOptions,
): Promise<void> {
  const replaced = path.join(temporary, "replaced");
  const keyLast = (names: string[]): string[] => names.sort((a, b) => Number(a === key) - Number(b === key));
  const moved: [from: string, to: string][] = [];
  const move = async (name: string, from: string, to: string): Promise<void> => {
    await rename(path.join(from, name), path.join(to, name));
    moved.push([path.join(from, name), path.join(to, name)]);
  };
  try {
    const names = await readdir(temporary);
    await mkdir(replaced);
    const old = (await readdir(folder, { withFileTypes: true })).filter((entry) => !entry.isDirectory());
    const oldNames = old.map(({ name }) => name).filter((name) => replaces(name) || names.includes(name));
    for (const name of keyLast(oldNames).reverse()) await move(name, folder, replaced);
    for (const name of keyLast(names)) await move(name, temporary, folder);
    await syncPath(folder);
  } catch (error) {
    try {
      for (const [from, to] of moved.reverse()) await rename(to, from);
    } catch (cause) {
      const { message } = error as Error;
      throw new HeedError("ERR_IO", `${folder}: ${message}; the files that were there are now in ${replaced}`, {
        cause,
      });
    }
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await rm(temporary, { recursive: true, force: true });
}
