// Where a pretrained model is on this machine: a folder of the user's, or a model of the hub (huggingface.co), which is
// downloaded into the cache that Hugging Face's libraries share.
import { stat } from "node:fs/promises";
import { describe, HeedError } from "../errors.js";

/** Looks into the folder of a model that has all but its weights; what it throws ends the download. */
export type Inspection = (folder: string) => Promise<unknown>;

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
  /**
   * Whether to ask nothing of the hub and take what is in the cache. @default true where HF_HUB_OFFLINE is 1, true, yes
   * or on
   */
  offline?: boolean;
  /** The cache's folder. @default HF_HUB_CACHE, or ~/.cache/huggingface/hub */
  cacheDir?: string;
  /** The hub's address. @default HF_ENDPOINT, or https://huggingface.co */
  hubUrl?: string;
  /** The token for models that are not public. No other host than the hub's gets it. @default HF_TOKEN */
  accessToken?: string;
  /** Which files are wanted. @default configurations, tokenizers and safetensors weights */
  files?: (name: string) => boolean;
  onProgress?: (progress: DownloadProgress) => void;
  signal?: AbortSignal;
}

/**
 * Resolves to the folder of a model: `name` itself if it is a folder, or the snapshot of a model of the hub
 * ("owner/name"). What was downloaded before is not downloaded again, several may load a model at the same time, and the
 * configuration comes before the weights. A whole snapshot of the cache is taken without a request where `revision` is a
 * commit, and where the hub cannot be reached or is out of order.
 *
 * @throws ERR_IO where neither the hub nor the cache has the model, or the disk has no room for it; ERR_FORMAT where what
 * comes is not what the hub announced; ERR_ARGUMENT for a name, an address or a token of the wrong form. Rejects with the
 * signal's reason.
 */
export async function pretrainedFolder(name: string, options: PretrainedOptions = {}): Promise<string> {
  return inspectedFolder(name, options);
}

/** Does what `pretrainedFolder` does, and calls `inspect` before weights are downloaded. */
export async function inspectedFolder(name: string, options: PretrainedOptions, inspect?: Inspection): Promise<string> {
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
  return snapshotOf(name, revision, options, inspect);
}

async function isFolder(name: string): Promise<boolean> {
  return stat(name).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
