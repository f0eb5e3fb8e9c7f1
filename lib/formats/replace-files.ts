// A folder's files replaced by others, all or none. The folder itself is never renamed or removed: it may be a mount
// point, or hold more than these files. What replaces them must lie in it, for a rename does not leave its disk.
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../errors.js";
import { syncPath } from "./atomic-file.js";

export interface ReplaceFilesOptions {
  /** Whether a file of the folder is one of those to be replaced. */
  replaces: (name: string) => boolean;
  /** The file without which the others are nothing: the first that goes and the last that comes. */
  key: string;
}

/**
 * Moves the files of `temporary`, a folder in `folder`, into `folder`, and removes those that they replace, and
 * `temporary`. If that fails the old files are put back, and `temporary` goes. A process that is killed meanwhile leaves
 * the old files, the new ones, or none under the key's name; then `temporary` holds what is missing.
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
