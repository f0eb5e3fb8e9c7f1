// The value of `heed train --data`: a file, a pattern, a folder of shards, or several folders with weights.
import { existsSync } from "node:fs";
import path from "node:path";
import { isShardFolder } from "../data/shard-index.js";
import { UsageError } from "./failure.js";

/** Folder of shards with its share of a mixture. */
export interface DataPart {
  folder: string;
  /** Share in proportion to the others; undefined for a share by size. */
  weight: number | undefined;
}

/** Returns the value of `--data` with absolute paths. */
export function resolveData(data: string): string {
  if (existsSync(data)) return path.resolve(data);
  return split(data)
    .map(({ folder, weight }) => path.resolve(folder) + (weight === undefined ? "" : `=${weight}`))
    .join(",");
}

/**
 * Returns the folders of shards in the value of `--data`, or null if it is a file or a pattern.
 *
 * @throws UsageError if there are several parts, and one is no folder of shards.
 */
export function shardParts(data: string): DataPart[] | null {
  const parts = existsSync(data) ? [{ folder: data, weight: undefined }] : split(data);
  if (parts.length === 1 && parts[0]!.weight === undefined && !isShardFolder(parts[0]!.folder)) return null;
  for (const { folder } of parts)
    if (!isShardFolder(folder))
      throw new UsageError(`--data ${folder}: expected a folder of shards, as heed data writes it, in a mixture`);
  return parts;
}

function split(data: string): DataPart[] {
  return data.split(",").map((part) => {
    const [, folder = part, number] = /^(.+)=([^=]*)$/.exec(part.trim()) ?? [];
    if (number === undefined) return { folder: folder.trim(), weight: undefined };
    const weight = number.trim() === "" ? NaN : Number(number);
    if (!(weight > 0 && weight < Infinity))
      throw new UsageError(`--data ${part}: expected a weight above 0 after the last =, got ${JSON.stringify(number)}`);
    return { folder, weight };
  });
}
