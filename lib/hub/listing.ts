// Lists the files of a commit. The hub is asked once; because a commit never changes, the answer is kept beside the
// snapshots, in the format of Python's huggingface_hub. The listing tells if a snapshot is complete without asking the
// hub.
//
//   {"format_version": 1, "files": {"config.json": {"size": 519, "blob_id": "<SHA-1>"},
//     "model.safetensors": {"size": 1234, "blob_id": "…", "lfs_sha256": "<SHA-256>", "lfs_size": 1234}}}
import { readdir } from "node:fs/promises";
import path from "node:path";
import type { ListFileEntry } from "@huggingface/hub";
import { describe, HeedError } from "../util/errors.js";
import { exists, ifThere, readTextFile } from "../util/files.js";
import type { HubFile, ModelCache } from "./cache.js";

const version = 1;

interface KeptFile {
  size: number;
  blob_id: string;
  lfs_sha256?: string;
  lfs_size?: number;
  xet_hash?: string;
}

/**
 * Returns a file that the hub lists.
 *
 * @throws ERR_FORMAT if its size or hash is impossible.
 */
export function hubFile({ path: name, size, oid, lfs }: ListFileEntry): HubFile {
  const hash: unknown = lfs?.oid ?? oid;
  if (typeof hash !== "string" || !/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(hash))
    throw new HeedError("ERR_FORMAT", `${name}: expected a hash of the file from the hub, got ${describe(hash)}`);
  if (!Number.isSafeInteger(size) || size < 0)
    throw new HeedError("ERR_FORMAT", `${name}: expected the file's size from the hub, got ${describe(size)}`);
  return { path: name, size, hash, large: lfs !== undefined };
}

/** Returns true if a path from the hub stays inside the model's folder. */
export function isInside(file: string): boolean {
  return file.split("/").every((part) => part !== "" && part !== "." && part !== ".." && !part.includes("\\"));
}

/** Saves the list of files that the hub gave for a commit. */
export async function keepListing(cache: ModelCache, commit: string, entries: readonly ListFileEntry[]): Promise<void> {
  const files = entries
    .filter(({ type }) => type === "file")
    .sort((a, b) => (a.path < b.path ? -1 : 1))
    .map(({ path: name, size, oid, lfs, xetHash }): [string, KeptFile] => [
      name,
      {
        size,
        blob_id: oid ?? "",
        ...(lfs && { lfs_sha256: lfs.oid, lfs_size: lfs.size }),
        ...(xetHash !== undefined && { xet_hash: xetHash }),
      },
    ]);
  const text = JSON.stringify({ format_version: version, files: Object.fromEntries(files) }, null, 1);
  const file = cache.listing(commit);
  if ((await readTextFile(file).catch(() => null)) !== text) await cache.note(file, text);
}

/**
 * Returns the name of a wanted file that a snapshot lacks, or null if the snapshot is complete.
 *
 * If the commit has no listing, a snapshot counts as complete if it has a configuration and weights and no part of the
 * weights is missing. If `certain` is true, such a snapshot counts as incomplete instead.
 */
export async function missingFile(
  cache: ModelCache,
  commit: string,
  wanted: (name: string) => boolean,
  { certain = false }: { certain?: boolean } = {},
): Promise<string | null> {
  const files = await readListing(cache.listing(commit), (name) => isInside(name) && wanted(name));
  if (!files) return certain ? "its listing" : missingByNames(cache.snapshot(commit), wanted);
  if (files.length === 0) return "any file";
  for (const file of files) if (!(await cache.holds(commit, file))) return file.path;
  return null;
}

/** Returns the wanted files of a listing, or null if the listing does not exist or has another format. */
async function readListing(file: string, wanted: (name: string) => boolean): Promise<HubFile[] | null> {
  const text = await ifThere(file, readTextFile);
  if (text === null) return null;
  try {
    const { format_version, files } = JSON.parse(text) as { format_version: unknown; files: Record<string, KeptFile> };
    if (format_version !== version) return null;
    const those = Object.entries(files).filter(([name]) => wanted(name));
    return those.map(([name, { size, blob_id, lfs_sha256, lfs_size }]) =>
      hubFile({
        type: "file",
        path: name,
        size: lfs_size ?? size,
        oid: blob_id,
        ...(lfs_sha256 !== undefined && { lfs: { oid: lfs_sha256, size, pointerSize: 0 } }),
      }),
    );
  } catch {
    return null;
  }
}

async function missingByNames(snapshot: string, wanted: (name: string) => boolean): Promise<string | null> {
  const all = await readdir(snapshot, { recursive: true, encoding: "utf8" });
  const names = new Set(all.map((name) => name.split(path.sep).join("/")).filter(wanted));
  for (const name of names) if (!(await exists(path.join(snapshot, name)))) return name;
  if (wanted("config.json") && !names.has("config.json")) return "config.json";
  const isWeights = (name: string): boolean => name.endsWith(".safetensors");
  if (wanted("model.safetensors") && ![...names].some(isWeights)) return "model.safetensors";
  for (const name of names) {
    const [, start, , count, end] = /^(.*-)(\d{5})-of-(\d{5})(\.safetensors)$/.exec(name) ?? [];
    for (let i = 1; i <= Number(count ?? 0); i++) {
      const part = `${start}${String(i).padStart(5, "0")}-of-${count}${end}`;
      if (!names.has(part)) return part;
    }
  }
  return names.size === 0 ? "any file" : null;
}
