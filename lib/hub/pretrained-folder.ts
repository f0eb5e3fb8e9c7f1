// Where a pretrained model is on this machine: a folder of the user's, or a model of the hub (huggingface.co), which is
// downloaded into the cache that Hugging Face's libraries share.
import { stat } from "node:fs/promises";
import { listFiles, type ListFileEntry, modelInfo } from "@huggingface/hub";
import { describe, HeedError } from "../errors.js";
import { ModelCache, isCommit } from "./cache.js";
import { downloadBlob, type HubRequest } from "./download.js";

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

const usualFiles =
  /^((generation_)?config|tokenizer(_config)?|special_tokens_map)\.json$|^chat_template\.jinja$|^model.*\.safetensors(\.index\.json)?$/;

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
  const { revision = "main", offline = process.env.HF_HUB_OFFLINE === "1", cacheDir, signal } = options;
  if (typeof revision !== "string" || !/^\w[\w./-]*$/.test(revision) || revision.includes(".."))
    throw new HeedError("ERR_ARGUMENT", `pretrained: expected a branch, tag or commit, got ${describe(revision)}`);
  signal?.throwIfAborted();
  const cache = new ModelCache(name, cacheDir);
  if (offline) return cached(cache, name, revision);
  try {
    return await download(cache, name, revision, options);
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof HeedError) throw cause;
    throw new HeedError("ERR_IO", `${name}: expected to download revision ${revision}, got: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

async function cached(cache: ModelCache, name: string, revision: string): Promise<string> {
  const commit = await cache.commitOf(revision);
  if (commit !== null) return cache.snapshot(commit);
  throw new HeedError("ERR_IO", `${name}: expected revision ${revision} in ${cache.folder} while offline, got none`);
}

async function download(
  cache: ModelCache,
  name: string,
  revision: string,
  options: PretrainedOptions,
): Promise<string> {
  const { files = (file: string) => usualFiles.test(file), onProgress, signal } = options;
  const request: HubRequest = {
    repo: name,
    revision,
    hubUrl: options.hubUrl ?? process.env.HF_ENDPOINT ?? "https://huggingface.co",
    fetch: (input, init) => fetch(input, { ...init, ...(signal && { signal }) }),
    ...withToken(options.accessToken ?? process.env.HF_TOKEN),
    signal,
  };
  const { sha: commit } = await modelInfo({ ...request, name, additionalFields: ["sha"] });
  if (!isCommit(commit))
    throw new HeedError("ERR_FORMAT", `${name}: expected a commit from the hub, got ${describe(commit)}`);
  const wanted: ListFileEntry[] = [];
  for await (const entry of listFiles({ ...request, revision: commit, recursive: true }))
    if (entry.type === "file" && isInside(entry.path) && files(entry.path)) wanted.push(entry);
  if (wanted.length === 0) throw new HeedError("ERR_IO", `${name}: expected files of a model, got none`);

  const sizeInAll = wanted.reduce((sum, { size }) => sum + size, 0);
  let before = 0;
  for (const entry of wanted) {
    const { path: file, size } = entry;
    const hash = await downloadBlob(cache, entry, { ...request, revision: commit }, (received) =>
      onProgress?.({ file, received, size, receivedInAll: before + received, sizeInAll }),
    );
    await cache.link(commit, file, hash);
    before += size;
  }
  await cache.setCommit(revision, commit);
  return cache.snapshot(commit);
}

function withToken(token: string | undefined): { accessToken?: string } {
  return token ? { accessToken: token } : {};
}

/** Whether a name from the hub stays within the folder of the model. */
function isInside(file: string): boolean {
  return file.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !part.includes("\\"));
}

/** What fetch found wrong is the cause of its error; what ends a stream may be a text. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}

async function isFolder(name: string): Promise<boolean> {
  return stat(name).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
