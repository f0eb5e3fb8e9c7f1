// Finds the files of a data set: files, folders, patterns, and data sets of the hub.
import { stat } from "node:fs/promises";
import path from "node:path";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { naming } from "../util/files.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import { datasetFolder } from "../hub/dataset-folder.js";
import { isShardFolder } from "./shard-index.js";

/** Formats of files with data, by their extensions. */
export const formats = {
  txt: "text",
  text: "text",
  md: "text",
  jsonl: "jsonl",
  ndjson: "jsonl",
  json: "json",
  csv: "csv",
  tsv: "tsv",
  parquet: "parquet",
} as const;

/** Format of a file with data. */
export type DataFormat = (typeof formats)[keyof typeof formats];

/** Compressions of such files, by the extensions that follow. */
export const compressions = { gz: "gzip", zst: "zstd" } as const;

/** A file with data. */
export interface DataFile {
  /** Path of the file. */
  readonly path: string;
  readonly format: DataFormat;
  readonly compression: "gzip" | "zstd" | null;
  /** Size in bytes, as it is stored. */
  readonly size: number;
  /** Time of the last change, in milliseconds since 1970. */
  readonly modified: number;
}

/** Options of the search for a data set's files. */
export interface InputOptions {
  /** Options of data sets that are on the hub. `files` chooses their files. */
  hub?: PretrainedOptions;
}

const pattern = /[*?[\]{}]/;
const hubName = /^(?:hf:)?(\w[\w.-]*\/\w[\w.-]*)(?:\/(.+))?$/;

/**
 * Resolves to the files of the inputs, in order; those of a folder, a pattern or a data set of the hub are sorted by
 * their names. A file that is found twice counts once. `inputs` are paths, patterns such as "data/*.jsonl.gz", or data
 * sets of the hub: "owner/name", or "hf:owner/name/train-*.parquet" for some of its files.
 *
 * @throws ERR_ARGUMENT if an input is not a text.
 * @throws ERR_IO if nothing is found, or a file cannot be read.
 * @throws ERR_FORMAT if the extension of a file is unknown.
 */
export async function findInputs(
  inputs: string | readonly string[],
  { hub = {} }: InputOptions = {},
): Promise<DataFile[]> {
  const list = typeof inputs === "string" ? [inputs] : inputs;
  if (!Array.isArray(list) || list.length === 0 || list.some((input) => typeof input !== "string" || input === ""))
    throw new HeedError("ERR_ARGUMENT", `data: expected paths, patterns or data sets, got ${describe(inputs)}`);
  const files = new Map<string, DataFile>();
  for (const input of list as readonly string[])
    for (const file of await pathsOf(input, hub)) {
      const full = path.resolve(file);
      if (!files.has(full)) files.set(full, await dataFile(file));
    }
  return [...files.values()];
}

/** Resolves to the sorted paths of the files that match a pattern. */
export async function findPattern(glob: string): Promise<string[]> {
  const tinyglobby = await import("tinyglobby");
  // Backslashes separate folders on Windows only; elsewhere they escape a character of the pattern.
  const given = process.platform === "win32" ? glob.replaceAll("\\", "/") : glob;
  const found = await tinyglobby.glob(given, {
    onlyFiles: true,
    expandDirectories: false,
    absolute: path.isAbsolute(given),
  });
  return found.sort(byCode);
}

/** Returns true if a path contains wildcards. */
export function isPattern(name: string): boolean {
  return pattern.test(name);
}

async function pathsOf(input: string, hub: PretrainedOptions): Promise<string[]> {
  const found = input.startsWith("hf:") ? null : await stat(input).catch(() => null);
  if (found?.isDirectory()) return inFolder(input, "**/*");
  if (found) return [input];
  const [, name, part] = hubName.exec(input) ?? [];
  if (name !== undefined && (input.startsWith("hf:") || (part === undefined && !isPattern(input))))
    return onHub(input, name, part, hub);
  if (input.startsWith("hf:"))
    throw new HeedError("ERR_ARGUMENT", `data: expected hf:owner/name or hf:owner/name/path, got ${describe(input)}`);
  const matches = isPattern(input) ? await findPattern(input) : [];
  if (matches.length > 0) return matches;
  throw new HeedError(
    "ERR_IO",
    isPattern(input)
      ? `${input}: expected files that match the pattern, got none`
      : `${input}: expected a file, a folder, a pattern or a data set of the hub (owner/name), got no such file or folder`,
  );
}

/** Resolves to the files with data in a folder that match a pattern. */
async function inFolder(folder: string, glob: string): Promise<string[]> {
  if (isShardFolder(folder))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${folder}: expected files with data, got a folder of shards, which is tokenised`,
    );
  const tinyglobby = await import("tinyglobby");
  const found = await tinyglobby.glob(glob, { cwd: folder, onlyFiles: true, expandDirectories: false, dot: false });
  const files = found.filter((file) => formatOf(file) !== null).sort(byCode);
  if (files.length > 0) return files.map((file) => path.join(folder, file));
  throw new HeedError("ERR_IO", `${folder}: expected files with data (${extensions()}), got none`);
}

async function onHub(
  input: string,
  name: string,
  part: string | undefined,
  options: PretrainedOptions,
): Promise<string[]> {
  try {
    if (part === undefined) return await inFolder(await datasetFolder(name, options), "**/*");
    const { default: picomatch } = await import("picomatch");
    const files = picomatch(part);
    return await inFolder(await datasetFolder(name, { ...options, files }), part);
  } catch (cause) {
    if (!(cause instanceof HeedError) || cause.code !== "ERR_IO" || input.startsWith("hf:")) throw cause;
    throw new HeedError("ERR_IO", `${cause.message}; there is no file or folder of this name either`, { cause });
  }
}

async function dataFile(file: string): Promise<DataFile> {
  const format = formatOf(file);
  if (!format)
    throw new HeedError("ERR_FORMAT", `${file}: expected a file with data (${extensions()}), got another extension`);
  const { size, mtimeMs } = await naming(file, () => stat(file));
  return { path: file, ...format, size, modified: mtimeMs };
}

/** Returns the format and the compression of a file by its name, or null if the extension is unknown. */
export function formatOf(file: string): Pick<DataFile, "format" | "compression"> | null {
  const [, extension, packed] = /\.([^.]+?)(?:\.(gz|zst))?$/i.exec(path.basename(file)) ?? [];
  const name = extension?.toLowerCase() ?? "";
  if (!Object.hasOwn(formats, name)) return null;
  const format = formats[name as keyof typeof formats];
  const compression = packed ? compressions[packed.toLowerCase() as keyof typeof compressions] : null;
  // A Parquet file is read by position, and compressed inside.
  return format === "parquet" && compression ? null : { format, compression };
}

function extensions(): string {
  return `${oneOf(Object.keys(formats).map((name) => `.${name}`))}, also with .gz or .zst`;
}

function byCode(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
