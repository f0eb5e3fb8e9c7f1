// Downloads one file of a model from the hub into the cache. Only one download of a file runs at a time, and it
// continues where an interrupted one stopped. If the connection fails, it tries again. The file is accepted only if it
// has the size and hash that the hub announced.
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { downloadFile } from "@huggingface/hub";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { writeFully } from "../formats/whole-io.js";
import type { HubFile, ModelCache } from "./cache.js";
import { patience } from "./environment.js";
import { claimPartial, releasePartial } from "./partial.js";
import { asking, type HubRequest, isOutage } from "./request.js";

const attempts = 3;
/** Milliseconds to wait before checking again on a download that another process or call is running. */
const pause = 200;

/** Downloads a file into the cache. `onBytes` is called with the number of its bytes that have arrived. */
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
      // Another download may have ended between the question above and the claim.
      if (await cache.hasBlob(entry)) await rm(claimed, { force: true });
      else {
        await fill(claimed, entry, request, onBytes);
        await naming(blob, () => rename(claimed, blob));
      }
    } catch (error) {
      if (error instanceof WrongContent) await rm(claimed, { force: true });
      else await releasePartial(claimed, blob);
      throw error;
    }
  }
  onBytes(entry.size);
}

/** Error of content that differs from what the hub announced. None of it is kept. */
class WrongContent extends HeedError {}

/** Downloads the missing bytes of an incomplete file and checks the complete file. */
async function fill(
  incomplete: string,
  entry: HubFile,
  request: HubRequest,
  onBytes: (received: number) => void,
): Promise<void> {
  const name = `${request.repo}/${entry.path}`;
  await using handle = await naming(incomplete, () => open(incomplete, "a+"));
  const hash = createHash(entry.large ? "sha256" : "sha1");
  // Git's hash covers a header as well as the bytes.
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
      // An error of the file system, or a refusal of the hub, would happen again.
      if (!isOutage(error) || attempt === attempts || request.signal?.aborted) throw error;
    }
  }
  await naming(incomplete, () => handle.sync());
  const found = hash.digest("hex");
  if (found !== entry.hash)
    throw new WrongContent("ERR_FORMAT", `${name}: expected a file with hash ${entry.hash}, got ${found}`);
}

/** Feeds the existing bytes of an incomplete file to the hash and returns their number. */
async function hashStart(handle: FileHandle, size: number, hash: Hash): Promise<number> {
  const { size: found } = await handle.stat();
  // A file that is too long belongs to something else.
  if (found > size) await handle.truncate(0);
  else if (found > 0)
    for await (const bytes of handle.createReadStream({ start: 0, autoClose: false }) as AsyncIterable<Buffer>)
      hash.update(bytes);
  return found > size ? 0 : found;
}

/** Passes the bytes of a file to `take` as they arrive, beginning at byte `start`. */
async function receive(
  { path, size }: HubFile,
  start: number,
  request: HubRequest,
  take: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const { repo, revision, hubUrl } = request;
  // A request that has been given up may still deliver bytes.
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
