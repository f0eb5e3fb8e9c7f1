// The cache that Hugging Face's libraries share (https://huggingface.co/docs/hub/local-cache):
//
//   models--<owner>--<name>/blobs/<hash>               the files
//   models--<owner>--<name>/snapshots/<commit>/<file>  links to the blobs, or the files where links are impossible
//   models--<owner>--<name>/refs/<revision>            the commit that a branch or tag last pointed to
//   models--<owner>--<name>/trees/<commit>.json        the files that a commit has (listing.ts)
//
// The folders of data sets begin with "datasets--".
//
// The existence of a reference or a snapshot folder does not mean that a file was downloaded: Python writes both before
// any file. A file that exists is never written again. Many processes can therefore load a model at the same time, even
// from a read-only disk.
import { copyFile, lstat, mkdir, readlink, rename, rm, stat, symlink } from "node:fs/promises";
import path from "node:path";
import { getHFHubCachePath } from "@huggingface/hub";
import { exists, ifThere, naming, readTextFile } from "../util/files.js";
import { temporaryName, writeFileAtomic } from "../formats/atomic-file.js";

/** A file of a model, as the hub lists it. */
export interface HubFile {
  /** Path in the model's repository. */
  path: string;
  /** Size in bytes. */
  size: number;
  /** SHA-256 of the bytes for a large file, git's SHA-1 for any other. */
  hash: string;
  /** True if the hub stores the file outside git (Git LFS). */
  large: boolean;
}

export function isCommit(revision: unknown): revision is string {
  return typeof revision === "string" && /^[0-9a-f]{40}$/.test(revision);
}

/** The files of one model or data set in the cache. */
export class ModelCache {
  readonly folder: string;

  /** `id` is the name of a model, or that of a data set with "datasets/" before it. */
  constructor(id: string, cacheDir: string | undefined) {
    const typed = id.startsWith("datasets/") ? id : `models/${id}`;
    this.folder = path.join(cacheDir ?? getHFHubCachePath(), typed.split("/").join("--"));
  }

  get blobs(): string {
    return path.join(this.folder, "blobs");
  }

  blob(hash: string): string {
    return path.join(this.blobs, hash);
  }

  snapshot(commit: string): string {
    return path.join(this.folder, "snapshots", commit);
  }

  listing(commit: string): string {
    return path.join(this.folder, "trees", `${commit}.json`);
  }

  /** Returns the commit that a revision last pointed to, or null if there is no snapshot of it. */
  async commitOf(revision: string): Promise<string | null> {
    const commit = isCommit(revision) ? revision : await this.#referenced(revision);
    return isCommit(commit) && (await exists(this.snapshot(commit))) ? commit : null;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || (await this.#referenced(revision)) === commit) return;
    await this.note(this.#reference(revision), commit);
  }

  /** Writes a file that saves requests later. If this fails, as on a read-only disk, the error is ignored. */
  async note(file: string, text: string): Promise<void> {
    try {
      await mkdir(path.dirname(file), { recursive: true });
      await writeFileAtomic(file, (handle) => handle.writeFile(text));
    } catch {
      // Nothing depends on this file.
    }
  }

  /** Returns true if the blob of a file exists and has the right size. */
  async hasBlob({ hash, size }: HubFile): Promise<boolean> {
    return (await sizeOf(this.blob(hash))) === size;
  }

  /** Returns true if a snapshot has a file of the right size: a link to the file's blob, or the file itself. */
  async holds(commit: string, { path: name, hash, size }: HubFile): Promise<boolean> {
    const file = path.join(this.snapshot(commit), name);
    if ((await sizeOf(file)) !== size) return false;
    return naming(file, async () => {
      if (!(await lstat(file)).isSymbolicLink()) return true;
      return path.resolve(path.dirname(file), await readlink(file)) === path.resolve(this.blob(hash));
    });
  }

  /** Puts the blob of a file into a snapshot, atomically, and replaces what is there. */
  async link(commit: string, { path: name, hash }: HubFile): Promise<void> {
    const file = path.join(this.snapshot(commit), name);
    const temporary = temporaryName(file);
    await naming(file, async () => {
      await mkdir(path.dirname(file), { recursive: true });
      const blob = this.blob(hash);
      try {
        await symlink(path.relative(path.dirname(file), blob), temporary);
      } catch (error) {
        // On Windows, few users may create links.
        if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
        await copyFile(blob, temporary);
      }
      try {
        await rename(temporary, file);
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    });
  }

  async #referenced(revision: string): Promise<string | undefined> {
    return (await ifThere(this.#reference(revision), readTextFile))?.trim();
  }

  #reference(revision: string): string {
    return path.join(this.folder, "refs", revision);
  }
}

/** Returns the size of the file that a path leads to, or null if there is none. */
async function sizeOf(file: string): Promise<number | null> {
  return stat(file).then(
    (stats) => (stats.isFile() ? stats.size : null),
    () => null,
  );
}
