// One file of a model on the hub into the cache: by one download at a time, begun where an earlier one was broken off,
// tried again where the connection fails, and taken only if size and hash are those that the hub tells.
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { downloadFile } from "@huggingface/hub";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";
import { writeFully } from "../formats/whole-io.js";
import type { HubFile, ModelCache } from "./cache.js";
import { patience } from "./environment.js";
import { claimPartial, releasePartial } from "./partial.js";
import { asking, type HubRequest, isOutage } from "./request.js";

const attempts = 3;
/** How many milliseconds a download that somebody else is at is left alone before it is looked at again. */
const pause = 200;

/** Brings a file into the cache. `onBytes` is told how many bytes of it are there. */
export async function downloadBlob(
  cache: ModelCache,
  entry: HubFile,
  request: HubRequest,
  onBytes: (received: number) => void,
): Promise<void> {
  const blob = cache.blob(entry.hash);
  while (!(await cache.hasBlob(entry))) {
    const claimed = await claimPartial(blob);
    if (typeof claimed === "number") {
      onBytes(Math.min(claimed, entry.size));
      await sleep(pause, undefined, { ...(request.signal && { signal: request.signal }) });
      continue;
    }
    try {
      await fill(claimed, entry, request, onBytes);
      await naming(blob, () => rename(claimed, blob));
    } catch (error) {
      if (error instanceof WrongContent) await rm(claimed, { force: true });
      else await releasePartial(claimed, blob);
      throw error;
    }
  }
  onBytes(entry.size);
}

/** What has come is not what the hub announced: none of it is kept. */
class WrongContent extends HeedError {}

/** Adds to an incomplete file what is missing of it, and checks the whole. */
async function fill(
  incomplete: string,
  entry: HubFile,
  request: HubRequest,
  onBytes: (received: number) => void,
): Promise<void> {
  const name = `${request.repo}/${entry.path}`;
  await using handle = await naming(incomplete, () => open(incomplete, "a+"));
  const hash = createHash(entry.large ? "sha256" : "sha1");
  // Git's name for a file is a hash of more than its bytes.
  if (!entry.large) hash.update(`blob ${entry.size}\0`);
  let received = await naming(incomplete, () => hashStart(handle, entry.size, hash));
  onBytes(received);
  const take = async (bytes: Uint8Array): Promise<void> => {
    if (received + bytes.length > entry.size)
      throw new WrongContent("ERR_FORMAT", `${name}: expected ${entry.size} bytes from the hub, got more`);
    await naming(incomplete, () => writeFully(handle, bytes));
    hash.update(bytes);
    onBytes((received += bytes.length));
  };
  for (let attempt = 1; received < entry.size; attempt++) {
    try {
      await receive(entry, received, request, take);
      if (received < entry.size && attempt === attempts)
        throw new WrongContent("ERR_FORMAT", `${name}: expected ${entry.size} bytes from the hub, got ${received}`);
    } catch (error) {
      // What the file system or the hub refuses, it will refuse again.
      if (!isOutage(error) || attempt === attempts || request.signal?.aborted) throw error;
    }
  }
  await naming(incomplete, () => handle.sync());
  const found = hash.digest("hex");
  if (found !== entry.hash)
    throw new WrongContent("ERR_FORMAT", `${name}: expected a file of hash ${entry.hash}, got ${found}`);
}

/** Puts what an incomplete file has already through the hash; resolves to the number of its bytes. */
async function hashStart(handle: FileHandle, size: number, hash: Hash): Promise<number> {
  const { size: found } = await handle.stat();
  // More than there should be belongs to something else.
  if (found > size) await handle.truncate(0);
  else if (found > 0)
    for await (const bytes of handle.createReadStream({ start: 0, autoClose: false }) as AsyncIterable<Buffer>)
      hash.update(bytes);
  return found > size ? 0 : found;
}

/** Hands on the bytes of a file from `start` as they come. */
async function receive(
  { path, size }: HubFile,
  start: number,
  request: HubRequest,
  take: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const { repo, revision, hubUrl } = request;
  // A request that was given up may still hand something on.
  let over = false;
  let taking = Promise.resolve();
  try {
    await asking(request, patience("HF_HUB_DOWNLOAD_TIMEOUT"), async (ask, heard) => {
      const blob = await downloadFile({ repo, revision, hubUrl, path, fetch: ask });
      if (!blob) throw new HeedError("ERR_IO", `${repo}: expected a file ${path}, got none`);
      const missing = start === 0 ? blob : blob.slice(start, size);
      for await (const bytes of missing.stream() as unknown as AsyncIterable<Uint8Array>) {
        if (over) return;
        taking = take(bytes);
        await taking;
        heard();
      }
    });
  } finally {
    over = true;
    await taking.catch(() => undefined);
  }
}
