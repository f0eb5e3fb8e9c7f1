import { describe, HeedError } from "../util/errors.js";
import type { PretrainedOptions } from "./pretrained-options.js";
import { checkRevision } from "./pretrained-folder.js";

const dataFiles = /\.(txt|text|jsonl|ndjson|json|csv|tsv)(\.(gz|zst))?$|\.parquet$/i;
/** Files of settings, which are JSON too. */
const settings = /(^|\/)(dataset_infos?|state|config|package)\.json$|(^|\/)\./;

/**
 * Resolves to the folder of a data set of the hub in the cache that Hugging Face's libraries share. Files that are in the
 * cache are not downloaded again. By default, all files of texts, JSON lines, CSV and Parquet are downloaded; `files`
 * chooses others.
 *
 * @example
 * // This downloads a data set.
 * const folder = await datasetFolder("roneneldan/TinyStories", { files: (name) => name.endsWith("valid.txt") });
 *
 * @throws ERR_IO if neither the hub nor the cache has the data set, or the disk has no room for it.
 * @throws ERR_FORMAT if the downloaded content differs from what the hub announced.
 * @throws ERR_ARGUMENT if the name, address or token has a wrong form.
 * @throws The signal's reason if it is aborted.
 */
export async function datasetFolder(name: string, options: PretrainedOptions = {}): Promise<string> {
  if (typeof name !== "string" || !/^\w[\w.-]*(\/\w[\w.-]*)?$/.test(name))
    throw new HeedError("ERR_ARGUMENT", `dataset: expected the name of a data set (owner/name), got ${describe(name)}`);
  const revision = checkRevision("dataset", options.revision);
  options.signal?.throwIfAborted();
  // The hub's library takes long to load, so it is loaded only when it is needed.
  const { snapshotOf } = await import("./snapshot.js");
  const files = (file: string): boolean => dataFiles.test(file) && !settings.test(file);
  return snapshotOf(`datasets/${name}`, revision, { files, ...options });
}
