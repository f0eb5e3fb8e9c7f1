// One file of a model on the hub into the cache: begun where it was broken off, tried again where the connection fails,
// and taken only if its hash is the one that the hub tells.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { downloadFile, HubApiError, type ListFileEntry } from "@huggingface/hub";
import { HeedError } from "../errors.js";
import { exists, naming } from "../files.js";
import type { ModelCache } from "./cache.js";

/** What every request to the hub is made with. */
export interface HubRequest {
  repo: string;
  revision: string;
  hubUrl: string;
  fetch: typeof fetch;
  accessToken?: string;
  signal?: AbortSignal | undefined;
}

const attempts = 3;

/** Brings a file into the cache, and resolves to its hash. `onBytes` is told how many bytes of it are there. */
export async function downloadBlob(
  cache: ModelCache,
  entry: ListFileEntry,
  request: HubRequest,
  onBytes: (received: number) => void,
): Promise<string> {
  const hash = entry.lfs?.oid ?? entry.oid ?? "";
  if (!/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(hash))
    throw new HeedError(
      "ERR_FORMAT",
      `${entry.path}: expected a hash of the file from the hub, got ${JSON.stringify(hash)}`,
    );
  const blob = cache.blob(hash);
  if (await exists(blob)) {
    onBytes(entry.size);
    return hash;
  }
  const incomplete = `${blob}.incomplete`;
  await naming(incomplete, () => mkdir(path.dirname(incomplete), { recursive: true }));
  for (let attempt = 1; ; attempt++) {
    try {
      await receive(entry, request, incomplete, onBytes);
      break;
    } catch (error) {
      // What the file system or the hub refuses, it will refuse again.
      const final = error instanceof HeedError || error instanceof HubApiError;
      if (final || attempt === attempts || request.signal?.aborted) throw error;
    }
  }
  const found = await hashOf(incomplete, entry);
  if (found !== hash) {
    await rm(incomplete, { force: true });
    throw new HeedError("ERR_FORMAT", `${request.repo}/${entry.path}: expected a file of hash ${hash}, got ${found}`);
  }
  await naming(blob, () => rename(incomplete, blob));
  return hash;
}

/** Adds to an incomplete file what is missing of it. */
async function receive(
  entry: ListFileEntry,
  { signal, ...request }: HubRequest,
  incomplete: string,
  onBytes: (received: number) => void,
): Promise<void> {
  await naming(incomplete, async () => {
    const handle = await open(incomplete, "a");
    try {
      let { size: received } = await handle.stat();
      // More than there should be belongs to something else.
      if (received > entry.size) await handle.truncate((received = 0));
      onBytes(received);
      if (received === entry.size) return;
      const blob = await downloadFile({ ...request, path: entry.path });
      if (!blob) throw new HeedError("ERR_IO", `${request.repo}: expected a file ${entry.path}, got none`);
      const missing = received === 0 ? blob : blob.slice(received, entry.size);
      for await (const bytes of missing.stream() as unknown as AsyncIterable<Uint8Array>) {
        signal?.throwIfAborted();
        await handle.writeFile(bytes);
        onBytes((received += bytes.length));
      }
      if (received < entry.size)
        throw new Error(`expected ${entry.size} bytes of ${entry.path}, got ${received}: the connection ended`);
      await handle.sync();
    } finally {
      await handle.close();
    }
  });
}

/** SHA-256 of a large file's bytes; of a small one, git's name for it. */
async function hashOf(file: string, { lfs }: ListFileEntry): Promise<string> {
  return naming(file, async () => {
    const hash = createHash(lfs ? "sha256" : "sha1");
    if (!lfs) hash.update(`blob ${(await stat(file)).size}\0`);
    for await (const bytes of createReadStream(file) as AsyncIterable<Buffer>) hash.update(bytes);
    return hash.digest("hex");
  });
}
