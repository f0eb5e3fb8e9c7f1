// The cache of Hugging Face's libraries, shared with them (https://huggingface.co/docs/hub/local-cache):
//
//   models--<owner>--<name>/blobs/<hash>               the files
//   models--<owner>--<name>/snapshots/<commit>/<file>  links to them; files themselves where there can be no links
//   models--<owner>--<name>/refs/<revision>            the commit that a branch or tag was at last
//   models--<owner>--<name>/trees/<commit>.json        what files a commit has (listing.ts)
//
// A reference or a folder of a snapshot says nothing of what has been downloaded: Python writes both before any file.
// What is there already is never written again, so that many may load a model at the same time, from a disk that
// nothing can be written to, too.
import { copyFile, lstat, mkdir, readlink, rename, rm, stat, symlink } from "node:fs/promises";
import path from "node:path";
import { getHFHubCachePath } from "@huggingface/hub";
import { exists, ifThere, naming, readTextFile } from "../files.js";
import { temporaryName, writeFileAtomic } from "../formats/atomic-file.js";

/** A file of a model, as the hub lists it. */
export interface HubFile {
  path: string;
  size: number;
  /** SHA-256 of the bytes of a large file; of others git's SHA-1. */
  hash: string;
  large: boolean;
}

export function isCommit(revision: unknown): revision is string {
  return typeof revision === "string" && /^[0-9a-f]{40}$/.test(revision);
}

/** One model in the cache. */
export class ModelCache {
  readonly folder: string;

  constructor(id: string, cacheDir: string | undefined) {
    this.folder = path.join(cacheDir ?? getHFHubCachePath(), ["models", ...id.split("/")].join("--"));
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

  /** The commit that a revision was at last, where there is a snapshot of it; null where there is none. */
  async commitOf(revision: string): Promise<string | null> {
    const commit = isCommit(revision) ? revision : await this.#referenced(revision);
    return isCommit(commit) && (await exists(this.snapshot(commit))) ? commit : null;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision) || (await this.#referenced(revision)) === commit) return;
    await this.note(this.#reference(revision), commit);
  }

  /** Writes a file that spares requests later. Where that cannot be, as on a read-only disk, what was asked for stands. */
  async note(file: string, text: string): Promise<void> {
    try {
      await mkdir(path.dirname(file), { recursive: true });
      await writeFileAtomic(file, (handle) => handle.writeFile(text));
    } catch {
      // Nothing depends on it.
    }
  }

  /** Whether a file's blob is there, of the right size. */
  async hasBlob({ hash, size }: HubFile): Promise<boolean> {
    return (await sizeOf(this.blob(hash))) === size;
  }

  /** Whether a snapshot has a file: a link to its blob, or the file itself, of the right size. */
  async holds(commit: string, { path: name, hash, size }: HubFile): Promise<boolean> {
    const file = path.join(this.snapshot(commit), name);
    if ((await sizeOf(file)) !== size) return false;
    return naming(file, async () => {
      if (!(await lstat(file)).isSymbolicLink()) return true;
      return path.resolve(path.dirname(file), await readlink(file)) === path.resolve(this.blob(hash));
    });
  }

  /** Puts a file's blob into a snapshot, at once, in the place of what is there. */
  async link(commit: string, { path: name, hash }: HubFile): Promise<void> {
    const file = path.join(this.snapshot(commit), name);
    const temporary = temporaryName(file);
    await naming(file, async () => {
      await mkdir(path.dirname(file), { recursive: true });
      const blob = this.blob(hash);
      try {
        await symlink(path.relative(path.dirname(file), blob), temporary);
      } catch (error) {
        // Windows lets few users make links.
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

/** The size of what a path leads to; null where it leads nowhere. */
async function sizeOf(file: string): Promise<number | null> {
  return stat(file).then(
    (stats) => (stats.isFile() ? stats.size : null),
    () => null,
  );
}
