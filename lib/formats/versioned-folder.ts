// Keeps versions of something, each a folder of files (a checkpoint), in one folder. The last complete version can be
// loaded at any time, even if the process is killed. POSIX cannot atomically replace a folder that contains files, so a
// version is never replaced. Saving a new one takes these steps:
//
// 1. The version is written under a temporary name, flushed to the disk and renamed to a name that is free.
// 2. The file `latest`, which lists the versions, the one to load first, is replaced atomically.
// 3. Old versions are removed.
//
// Only three things are ever removed: old versions that were listed, versions that a killed process renamed but did not
// list (they contain the file `unlisted`), and temporary files of dead processes.
//
//   checkpoints/latest          "step-000200\nstep-000100\n"
//   checkpoints/step-000100/    model.safetensors, …
//   checkpoints/step-000200/
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { exists, naming } from "../util/files.js";
import { removeStaleTemporaries, syncPath, temporaryName, temporaryOwner, writeFileAtomic } from "./atomic-file.js";
import { checkFreeSpace } from "./free-space.js";

/**
 * Name of a file in a version that `latest` does not list yet. A version that keeps it was abandoned by a killed
 * process.
 */
const unlisted = "unlisted";

export interface SaveVersionOptions {
  /** Number of versions to keep. @default 2 */
  keep?: number;
  /** Least number of bytes of the new version. If the disk has less room, nothing is written. @default 0 */
  bytes?: number;
  /** Paths of incomplete versions. They are removed before complete ones. @default [] */
  spoilt?: readonly string[];
  /** Called before each change of the folder, which is left out if it rejects: the check of the folder's lock. */
  check?: (() => Promise<void>) | undefined;
}

/**
 * Adds a version, which `write` saves in the folder it is given, and makes it the latest. Then keeps the newest `keep`
 * versions and removes the others. Returns the path of the version: `folder/name`, or `folder/name-1` and so on if that
 * name is taken. Only one process may write at a time (see folder-lock.ts); any number may read.
 *
 * @throws ERR_ARGUMENT if `name` is not a plain file name.
 * @throws ERR_RANGE if `keep` is not a positive integer.
 * @throws ERR_IO if the version cannot be saved; the message names the folder, and `latest` still names a complete
 * version.
 */
export async function saveVersion(
  folder: string,
  name: string,
  write: (temporary: string) => Promise<void>,
  { keep = 2, bytes = 0, spoilt = [], check = () => Promise.resolve() }: SaveVersionOptions = {},
): Promise<string> {
  if (!isPlainName(name))
    throw new HeedError("ERR_ARGUMENT", `saveVersion: expected a plain file name, got ${JSON.stringify(name)}`);
  if (!Number.isSafeInteger(keep) || keep < 1)
    throw new HeedError("ERR_RANGE", `saveVersion: expected to keep at least 1 version, got ${keep}`);
  return naming(folder, async () => {
    await check();
    await mkdir(folder, { recursive: true });
    const names = spoilt.map((version) => path.basename(version));
    const before = (await listed(folder)).sort((a, b) => Number(names.includes(a)) - Number(names.includes(b)));
    await removeStaleTemporaries(folder);
    await removeUnlisted(folder, before);
    await checkFreeSpace(folder, bytes);
    const temporary = temporaryName(path.join(folder, name));
    let version: string;
    try {
      await mkdir(temporary);
      await write(temporary);
      await writeFile(path.join(temporary, unlisted), "");
      await syncTree(temporary);
      await check();
      version = await freeName(folder, name);
      await rename(temporary, path.join(folder, version));
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
    await syncPath(folder);
    const versions = [version, ...before];
    await check();
    await writeFileAtomic(path.join(folder, "latest"), async (handle) => {
      await handle.writeFile(`${versions.join("\n")}\n`);
    });
    await rm(path.join(folder, version, unlisted));
    for (const old of versions.slice(keep)) {
      await check();
      await remove(path.join(folder, old));
    }
    return path.join(folder, version);
  });
}

/**
 * Returns the paths of the versions that were saved last, the newest first. Some may have been removed since. Returns
 * [] if nothing was ever saved.
 *
 * @throws ERR_FORMAT if `latest` lists something other than names of folders.
 */
export async function listVersions(folder: string): Promise<string[]> {
  return naming(folder, async () => {
    const pointer = path.join(folder, "latest");
    const names = (await readPointer(pointer)) ?? [];
    for (const name of names)
      if (!isPlainName(name))
        throw new HeedError(
          "ERR_FORMAT",
          `${pointer}: expected the name of a folder beside it, got ${JSON.stringify(name)}`,
        );
    return names.map((name) => path.join(folder, name));
  });
}

/**
 * Returns the path of the version to load, or null if nothing was ever saved.
 *
 * @throws ERR_FORMAT if the latest version does not exist.
 */
export async function latestVersion(folder: string): Promise<string | null> {
  const [latest = null] = await listVersions(folder);
  if (latest === null || (await exists(latest))) return latest;
  throw new HeedError(
    "ERR_FORMAT",
    `${path.join(folder, "latest")}: expected the name of a folder beside it, got ${JSON.stringify(path.basename(latest))}`,
  );
}

/** Returns the lines of `latest`, or null if that file does not exist. */
async function readPointer(pointer: string): Promise<string[] | null> {
  try {
    return (await readFile(pointer, "utf8")).trimEnd().split("\n");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** Returns the names of the listed versions that exist, the newest first. */
async function listed(folder: string): Promise<string[]> {
  const names = (await readPointer(path.join(folder, "latest"))) ?? [];
  const found = await Promise.all(
    names.map(async (name) => isPlainName(name) && (await exists(path.join(folder, name)))),
  );
  return names.filter((_, i) => found[i]);
}

/** Returns true for a name that has no path and differs from `latest` and from temporary names. */
function isPlainName(name: string): boolean {
  return /^[\w-][\w.-]*$/.test(name) && name !== "latest" && temporaryOwner(name) === null;
}

async function freeName(folder: string, name: string): Promise<string> {
  for (let i = 0; ; i++) {
    const candidate = i === 0 ? name : `${name}-${i}`;
    if (!(await exists(path.join(folder, candidate)))) return candidate;
  }
}

/** Flushes a folder and everything in it to the disk. */
async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const name = path.join(folder, entry.name);
    await (entry.isDirectory() ? syncTree(name) : syncPath(name));
  }
  await syncPath(folder);
}

/** Removes versions that a killed process has saved but not listed. */
async function removeUnlisted(folder: string, versions: readonly string[]): Promise<void> {
  for (const name of await readdir(folder))
    if (isPlainName(name) && !versions.includes(name) && (await exists(path.join(folder, name, unlisted))))
      await remove(path.join(folder, name));
}

/** Removes a version. It is renamed first, so that a partly removed version is never taken for a complete one. */
async function remove(version: string): Promise<void> {
  const doomed = temporaryName(version);
  await rename(version, doomed);
  await rm(doomed, { recursive: true, force: true });
}
