// The cache of Hugging Face's libraries, shared with them: `models--<owner>--<name>/blobs/<hash>` holds the files,
// `snapshots/<commit>/<file>` links to them, and `refs/<revision>` names a commit. A reference is written when its
// snapshot is whole.
import { copyFile, mkdir, rm, symlink } from "node:fs/promises";
import path from "node:path";
import { getHFHubCachePath } from "@huggingface/hub";
import { writeFileAtomic } from "../formats/atomic-file.js";
import { exists, ifThere, naming, readTextFile } from "../files.js";

const commitPattern = /^[0-9a-f]{40}$/;

export function isCommit(revision: string): boolean {
  return commitPattern.test(revision);
}

/** One model in the cache. */
export class ModelCache {
  readonly folder: string;

  constructor(id: string, cacheDir: string | undefined) {
    this.folder = path.join(cacheDir ?? getHFHubCachePath(), ["models", ...id.split("/")].join("--"));
  }

  blob(hash: string): string {
    return path.join(this.folder, "blobs", hash);
  }

  snapshot(commit: string): string {
    return path.join(this.folder, "snapshots", commit);
  }

  /** The commit of a revision's last whole download; null where there is none. */
  async commitOf(revision: string): Promise<string | null> {
    if (isCommit(revision)) return (await exists(this.snapshot(revision))) ? revision : null;
    const text = await ifThere(this.#reference(revision), readTextFile);
    const commit = text?.trim() ?? "";
    return isCommit(commit) && (await exists(this.snapshot(commit))) ? commit : null;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (isCommit(revision)) return;
    const file = this.#reference(revision);
    await naming(file, () => mkdir(path.dirname(file), { recursive: true }));
    await writeFileAtomic(file, (handle) => handle.writeFile(commit));
  }

  /** Puts a blob under its name into a snapshot. */
  async link(commit: string, name: string, hash: string): Promise<void> {
    const file = path.join(this.snapshot(commit), name);
    await naming(file, async () => {
      await mkdir(path.dirname(file), { recursive: true });
      await rm(file, { force: true });
      const blob = this.blob(hash);
      try {
        await symlink(path.relative(path.dirname(file), blob), file);
      } catch (error) {
        // Windows lets few users make links.
        if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
        await copyFile(blob, file);
      }
    });
  }

  #reference(revision: string): string {
    return path.join(this.folder, "refs", revision);
  }
}
