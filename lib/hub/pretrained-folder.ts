// Where a pretrained model is on this machine: a folder of the user's, or a model of the hub (huggingface.co), which is
// downloaded into the cache that Hugging Face's libraries share.
import { stat } from "node:fs/promises";
import { describe, HeedError } from "../errors.js";

export interface DownloadProgress {
  /** The file that is being downloaded. */
  file: string;
  /** Bytes of it that are there, and all. */
  received: number;
  size: number;
  /** The same of all files together. */
  receivedInAll: number;
  sizeInAll: number;
}

export interface PretrainedOptions {
  /** A branch, tag or commit; "main" unless given. */
  revision?: string;
  /** Whether to ask nothing of the hub and take what is in the cache; HF_HUB_OFFLINE=1 is the same. */
  offline?: boolean;
  /** HF_HUB_CACHE, or ~/.cache/huggingface/hub, unless given. */
  cacheDir?: string;
  /** HF_ENDPOINT, or https://huggingface.co, unless given. */
  hubUrl?: string;
  /** For models that are not public; HF_TOKEN unless given. */
  accessToken?: string;
  /** Which files are wanted; configurations, tokenizers and safetensors weights unless given. */
  files?: (name: string) => boolean;
  onProgress?: (progress: DownloadProgress) => void;
  signal?: AbortSignal;
}

/**
 * The folder of a model: `name` itself if it is a folder, or the snapshot of a model of the hub ("owner/name"). What was
 * downloaded before is not again. Throws ERR_IO where the hub or the cache does not have it, ERR_FORMAT where what comes
 * is not what the hub says; rejects with the signal's reason.
 */
export async function pretrainedFolder(name: string, options: PretrainedOptions = {}): Promise<string> {
  if (typeof name !== "string")
    throw new HeedError("ERR_ARGUMENT", `pretrained: expected a folder or the name of a model, got ${describe(name)}`);
  if (await isFolder(name)) return name;
  if (!/^[\w][\w.-]*(\/[\w][\w.-]*)?$/.test(name))
    throw new HeedError(
      "ERR_IO",
      `pretrained: expected a folder or a model's name (owner/name), got ${describe(name)}`,
    );
  const { revision = "main", signal } = options;
  if (typeof revision !== "string" || !/^\w[\w./-]*$/.test(revision) || revision.includes(".."))
    throw new HeedError("ERR_ARGUMENT", `pretrained: expected a branch, tag or commit, got ${describe(revision)}`);
  signal?.throwIfAborted();
  // The hub's library takes long to load: those wait for it who ask the hub.
  const { snapshotOf } = await import("./snapshot.js");
  return snapshotOf(name, revision, options);
}

async function isFolder(name: string): Promise<boolean> {
  return stat(name).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
