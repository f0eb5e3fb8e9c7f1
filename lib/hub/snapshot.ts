// The files of a model's revision in the cache, downloaded unless they are there.
import { listFiles, type ListFileEntry, modelInfo } from "@huggingface/hub";
import { describe, HeedError } from "../errors.js";
import { isCommit, ModelCache } from "./cache.js";
import { downloadBlob, type HubRequest } from "./download.js";
import type { PretrainedOptions } from "./pretrained-folder.js";

const usualFiles =
  /^((generation_|sentence_bert_)?config|tokenizer(_config)?|special_tokens_map|modules|1_Pooling\/config)\.json$|^chat_template\.jinja$|^model.*\.safetensors(\.index\.json)?$/;

/** The folder of a revision of a model of the hub; its errors are those of `pretrainedFolder`. */
export async function snapshotOf(name: string, revision: string, options: PretrainedOptions): Promise<string> {
  const { offline = process.env.HF_HUB_OFFLINE === "1", cacheDir, signal } = options;
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
