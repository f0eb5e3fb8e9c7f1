// A folder of versions, each itself a folder of files (a checkpoint), of which the last complete one is always there to
// load, whenever the process is killed. POSIX cannot replace a folder that has files in it at once, so versions are
// never replaced: a new one is written under a temporary name, brought to the disk and renamed to a name that is free;
// then the file `latest`, which lists the versions, the one to load first, is replaced atomically; only then do old
// versions go. Nothing is ever removed but versions that were listed and are old, versions that a killed process did not
// come to list (they say so themselves), and temporaries of dead processes.
//
//   checkpoints/latest          "step-000200\nstep-000100\n"
//   checkpoints/step-000100/    model.safetensors, …
//   checkpoints/step-000200/
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../errors.js";
import { exists, naming } from "../files.js";
import { removeStaleTemporaries, syncPath, temporaryName, temporaryOwner, writeFileAtomic } from "./atomic-file.js";
import { checkFreeSpace } from "./free-space.js";

/** A file in a version that no list names yet: where the process was killed before, the version is nobody's. */
const unlisted = "unlisted";

export interface SaveVersionOptions {
  /** How many versions to keep. @default 2 */
  keep?: number;
  /** The least number of bytes that the version will have: where there is less room, nothing is begun. @default 0 */
  bytes?: number;
  /** Paths of versions that are not whole: they are the first to go, so that they take no place of one that is. */
  spoilt?: readonly string[];
}

/**
 * Adds a version made by `write`, which fills the folder it is given, and makes it the latest; then keeps the newest
 * `keep` versions. Returns the version's path: `folder/name`, or `folder/name-1` and so on where that is taken. One
 * writer at a time (folder-lock.ts); any number may read. Throws ERR_IO naming the folder; `latest` then still names a
 * complete version.
 */
export async function saveVersion(
  folder: string,
  name: string,
  write: (temporary: string) => Promise<void>,
  { keep = 2, bytes = 0, spoilt = [] }: SaveVersionOptions = {},
): Promise<string> {
  if (!isPlainName(name))
    throw new HeedError("ERR_ARGUMENT", `saveVersion: expected a plain file name, got ${JSON.stringify(name)}`);
  if (!Number.isSafeInteger(keep) || keep < 1)
    throw new HeedError("ERR_RANGE", `saveVersion: expected to keep at least 1 version, got ${keep}`);
  return naming(folder, async () => {
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
      version = await freeName(folder, name);
      await rename(temporary, path.join(folder, version));
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
    await syncPath(folder);
    const versions = [version, ...before];
    await writeFileAtomic(path.join(folder, "latest"), async (handle) => {
      await handle.writeFile(`${versions.join("\n")}\n`);
    });
    await rm(path.join(folder, version, unlisted));
    for (const old of versions.slice(keep)) await remove(path.join(folder, old));
    return path.join(folder, version);
  });
}

/**
 * The paths of the versions that were saved last, the newest first, whether they are still there or not; none where
 * nothing was ever saved. Throws ERR_FORMAT for a list of other things.
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

/** The path of the version to load; null where none was ever saved. Throws ERR_FORMAT where it is not there. */
export async function latestVersion(folder: string): Promise<string | null> {
  const [latest = null] = await listVersions(folder);
  if (latest === null || (await exists(latest))) return latest;
  throw new HeedError(
    "ERR_FORMAT",
    `${path.join(folder, "latest")}: expected the name of a folder beside it, got ${JSON.stringify(path.basename(latest))}`,
  );
}

/** The lines of `latest`; null where there is none. */
async function readPointer(pointer: string): Promise<string[] | null> {
  try {
    return (await readFile(pointer, "utf8")).trimEnd().split("\n");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** The versions there are, the newest first. */
async function listed(folder: string): Promise<string[]> {
  const names = (await readPointer(path.join(folder, "latest"))) ?? [];
  const found = await Promise.all(
    names.map(async (name) => isPlainName(name) && (await exists(path.join(folder, name)))),
  );
  return names.filter((_, i) => found[i]);
}

/** A name without a path, and neither the pointer's nor like a temporary's. */
function isPlainName(name: string): boolean {
  return /^[\w-][\w.-]*$/.test(name) && name !== "latest" && temporaryOwner(name) === null;
}

async function freeName(folder: string, name: string): Promise<string> {
  for (let i = 0; ; i++) {
    const candidate = i === 0 ? name : `${name}-${i}`;
    if (!(await exists(path.join(folder, candidate)))) return candidate;
  }
}

/** Brings a folder and everything in it to the disk. */
async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const name = path.join(folder, entry.name);
    await (entry.isDirectory() ? syncTree(name) : syncPath(name));
  }
  await syncPath(folder);
}

/** Removes versions of which a killed process did not come to tell anybody. */
async function removeUnlisted(folder: string, versions: readonly string[]): Promise<void> {
  for (const name of await readdir(folder))
    if (isPlainName(name) && !versions.includes(name) && (await exists(path.join(folder, name, unlisted))))
      await remove(path.join(folder, name));
}

/** Removes a version; renamed first, so that one half removed is never taken for a whole one. */
async function remove(version: string): Promise<void> {
  const doomed = temporaryName(version);
  await rename(version, doomed);
  await rm(doomed, { recursive: true, force: true });
}
