// Finds the files of a split of a data set on the hub.
import path from "node:path";
import { findInputs } from "../data/inputs.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import type { TaskDataset } from "./task-fields.js";

/** Names that Hugging Face's datasets takes for the same split. */
const synonyms: readonly (readonly string[])[] = [
  ["train", "training"],
  ["validation", "valid", "val", "dev"],
  ["test", "testing", "eval", "evaluation"],
];

/**
 * Resolves to the paths of a split's files, after their download. Without `named`, these are the files whose name has the
 * split's name as a word of its own, such as test-00000-of-00001.parquet, or that are in a folder of this name, as in
 * Hugging Face's datasets. Only files of the split are downloaded.
 *
 * @param named paths or patterns of files in the data set, or undefined
 *
 * @throws ERR_IO if there are no such files, or neither the hub nor the cache has the data set.
 * @throws ERR_FORMAT if the name of the split is malformed, or several parts of the data set have such files.
 */
export async function splitFiles(
  { path: name, name: part, revision }: TaskDataset,
  split: string,
  named: readonly string[] | undefined,
  hub: PretrainedOptions,
): Promise<string[]> {
  if (!/^\w[\w-]*$/.test(split))
    throw new HeedError("ERR_FORMAT", `expected the name of a split, without a part of it, got ${describe(split)}`);
  const options = { hub: { ...hub, ...(revision !== null && { revision }) } };
  const patterns = named ?? [patternOf(split, part === null ? "" : `${part}/`)];
  const files = await findInputs(
    patterns.map((pattern) => `hf:${name}/${pattern}`),
    options,
  );
  const parts = [...new Set(files.map((file) => path.basename(path.dirname(file.path))))];
  if (named === undefined && parts.length > 1)
    throw new HeedError(
      "ERR_FORMAT",
      `expected dataset_name to be ${oneOf(parts)}, because the split ${split} of ${name} has files in each, got ${describe(part)}`,
    );
  return files.map((file) => file.path);
}

/** Returns the pattern of the files of a split in a folder, whose path is empty or ends with a slash. */
function patternOf(split: string, within: string): string {
  const names = synonyms.find((same) => same.includes(split)) ?? [split];
  const word = `@(${names.join("|")})`;
  // `**` matches folders only at the beginning of an alternative or after a slash.
  return `{${within}**/?(*[-._0-9])${word}?([-._0-9]*).*,${within}**/${word}/**/*}`;
}
