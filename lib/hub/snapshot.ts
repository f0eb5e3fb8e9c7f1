// Downloads the files of a model's revision that the cache lacks. The configuration and other small files come first,
// so that weights are downloaded only if heed can load the model.
import { mkdir, statfs } from "node:fs/promises";
import { datasetInfo, listFiles, type ListFileEntry, modelInfo } from "@huggingface/hub";
import { describe, HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { type HubFile, isCommit, ModelCache } from "./cache.js";
import { downloadBlob } from "./download.js";
import { hubAddress, hubToken, isOffline, patience } from "./environment.js";
import { hubFile, isInside, keepListing, missingFile } from "./listing.js";
import { partialSize } from "./partial.js";
import { NoSuchModelError } from "../util/no-such-model-error.js";
import type { Inspection, PretrainedOptions } from "./pretrained-options.js";
import { asking, type HubRequest, isMissing, isOutage, reasonOf } from "./request.js";

const usualFiles =
  /^((generation_|sentence_bert_)?config|config_sentence_transformers|tokenizer(_config)?|special_tokens_map|modules|\d+_Pooling\/config)\.json$|^chat_template\.jinja$|^model.*\.safetensors(\.index\.json)?$/;
const weightFiles = /\.(safetensors|gguf|ggml|bin|onnx|onnx_data|pt|pth|h5|msgpack|ot)$/;

/**
 * Returns the folder of a revision of a model on the hub, or of a data set, whose name begins with "datasets/". Errors
 * are those of `pretrainedFolder`.
 */
export async function snapshotOf(
  name: string,
  revision: string,
  options: PretrainedOptions,
  inspect?: Inspection,
): Promise<string> {
  const { offline = isOffline(), cacheDir, signal, files = (file: string) => usualFiles.test(file) } = options;
  const cache = new ModelCache(name, cacheDir);
  if (offline) return cached(cache, name, revision, files);
  // A commit never changes, so its snapshot needs no request.
  if (isCommit(revision) && (await missingFile(cache, revision, files, { certain: true })) === null)
    return cache.snapshot(revision);
  const request = { repo: name, revision, hubUrl: hubAddress(options), token: hubToken(options), signal };
  try {
    return await download(cache, request, files, options.onProgress, inspect);
  } catch (cause) {
    signal?.throwIfAborted();
    if (isOutage(cause)) {
      const commit = await cache.commitOf(revision);
      if (commit !== null && (await missingFile(cache, commit, files)) === null) return cache.snapshot(commit);
    }
    if (cause instanceof HeedError) throw cause;
    const Kind = isMissing(cause) ? NoSuchModelError : HeedError;
    throw new Kind("ERR_IO", `${name}: expected to download revision ${revision}, got: ${reasonOf(cause)}`, { cause });
  }
}

async function cached(
  cache: ModelCache,
  name: string,
  revision: string,
  files: (name: string) => boolean,
): Promise<string> {
  const commit = await cache.commitOf(revision);
  const missing = commit === null ? null : await missingFile(cache, commit, files);
  if (commit !== null && missing === null) return cache.snapshot(commit);
  const found = missing === null ? "none" : `one without ${missing}`;
  throw new NoSuchModelError(
    "ERR_IO",
    `${name}: expected a copy of revision ${revision} in ${cache.folder} while offline, got ${found}`,
  );
}

async function download(
  cache: ModelCache,
  request: HubRequest,
  files: (name: string) => boolean,
  onProgress: PretrainedOptions["onProgress"],
  inspect: Inspection | undefined,
): Promise<string> {
  const { repo: name, revision } = request;
  const { commit, entries } = await listingOf(request);
  const wanted = entries
    .filter((entry) => entry.type === "file" && isInside(entry.path) && files(entry.path))
    .map(hubFile)
    .sort((a, b) => rank(a) - rank(b));
  const owner = name.startsWith("datasets/") ? "data set" : "model";
  if (wanted.length === 0) throw new HeedError("ERR_IO", `${name}: expected files of a ${owner}, got none`);
  const missing: HubFile[] = [];
  for (const file of wanted) if (!(await cache.holds(commit, file))) missing.push(file);
  await keepListing(cache, commit, entries);
  if (missing.length > 0) await checkSpace(cache, name, missing);

  const sizeInAll = wanted.reduce((sum, { size }) => sum + size, 0);
  let before = 0;
  let inspected = false;
  for (const file of wanted) {
    const { path, size } = file;
    const tell = (received: number): void =>
      onProgress?.({ file: path, received, size, receivedInAll: before + received, sizeInAll });
    if (missing.includes(file)) {
      if (!inspected && weightFiles.test(path)) {
        await inspect?.(cache.snapshot(commit));
        inspected = true;
      }
      await downloadBlob(cache, file, { ...request, revision: commit }, tell);
      await cache.link(commit, file);
    } else tell(size);
    before += size;
  }
  await cache.setCommit(revision, commit);
  return cache.snapshot(commit);
}

/** Asks the hub for the commit and the files of a revision. */
async function listingOf(request: HubRequest): Promise<{ commit: string; entries: ListFileEntry[] }> {
  const { repo, hubUrl, revision } = request;
  return asking(request, patience("HF_HUB_ETAG_TIMEOUT"), async (ask) => {
    const about = { repo, hubUrl, fetch: ask };
    const wanted = { ...about, revision, additionalFields: ["sha"] as ["sha"] };
    const { sha: commit } = repo.startsWith("datasets/")
      ? await datasetInfo({ ...wanted, name: repo.slice("datasets/".length) })
      : await modelInfo({ ...wanted, name: repo });
    if (!isCommit(commit))
      throw new HeedError("ERR_FORMAT", `${repo}: expected a commit from the hub, got ${describe(commit)}`);
    const entries: ListFileEntry[] = [];
    for await (const entry of listFiles({ ...about, revision: commit, recursive: true })) entries.push(entry);
    return { commit, entries };
  });
}

/** Returns the place of a file in the order of downloads: the configuration, then other small files, then weights. */
function rank({ path }: HubFile): number {
  return path === "config.json" ? 0 : weightFiles.test(path) ? 2 : 1;
}

/**
 * Checks that the disk has room for the missing files.
 *
 * @throws ERR_IO if it has not.
 */
async function checkSpace(cache: ModelCache, name: string, missing: readonly HubFile[]): Promise<void> {
  await naming(cache.blobs, async () => {
    await mkdir(cache.blobs, { recursive: true });
    let needed = 0;
    for (const file of missing)
      if (!(await cache.hasBlob(file))) needed += file.size - (await partialSize(cache.blob(file.hash)));
    const { bavail, bsize, blocks } = await statfs(cache.blobs);
    // Some network disks do not report their size.
    if (blocks > 0 && needed > bavail * bsize)
      throw new HeedError(
        "ERR_IO",
        `${name}: expected ${needed} bytes free in ${cache.blobs} for the download, got ${bavail * bsize}`,
      );
  });
}
