// Finds the folder of a pretrained model: a folder of the user, or a model of the hub (huggingface.co), which is
// downloaded into the cache that Hugging Face's libraries share.
import { stat } from "node:fs/promises";
import { describe, HeedError } from "../util/errors.js";
import { replacedFolder } from "../formats/replace-files.js";
import type { Inspection, PretrainedOptions } from "./pretrained-options.js";

/**
 * Returns the folder of a model: `name` itself if it is a folder, otherwise the snapshot of the hub's model
 * "owner/name" in the cache. If a process was killed while it replaced the model in the folder, the old model is in a
 * subfolder, which is returned.
 *
 * Files that are in the cache are not downloaded again, and several processes may load a model at the same time. The
 * configuration is downloaded before the weights. A complete snapshot in the cache is used without a request if
 * `revision` is a commit, and also if the hub cannot be reached or is out of order.
 *
 * @example
 * // This downloads a model.
 * const folder = await pretrainedFolder("openai-community/gpt2", {
 *   onProgress: ({ receivedInAll, sizeInAll }) => console.log(`${receivedInAll} of ${sizeInAll} bytes`),
 * });
 *
 * @throws ERR_IO if neither the hub nor the cache has the model, or the disk has no room for it.
 * @throws ERR_FORMAT if the downloaded content differs from what the hub announced.
 * @throws ERR_ARGUMENT if the name, address or token has a wrong form.
 * @throws The signal's reason if it is aborted.
 * @see https://huggingface.co/docs/hub/local-cache
 */
export async function pretrainedFolder(name: string, options: PretrainedOptions = {}): Promise<string> {
  return inspectedFolder(name, options);
}

/** Returns the folder of a model as `pretrainedFolder` does, and calls `inspect` before weights are downloaded. */
export async function inspectedFolder(name: string, options: PretrainedOptions, inspect?: Inspection): Promise<string> {
  if (typeof name !== "string")
    throw new HeedError("ERR_ARGUMENT", `pretrained: expected a folder or the name of a model, got ${describe(name)}`);
  // If saving another model in the folder was interrupted, the old one is in a subfolder.
  if (await isFolder(name)) return (await replacedFolder(name, "config.json")) ?? name;
  if (!/^[\w][\w.-]*(\/[\w][\w.-]*)?$/.test(name))
    throw new HeedError(
      "ERR_IO",
      `pretrained: expected a folder or a model's name (owner/name), got ${describe(name)}`,
    );
  const revision = checkRevision("pretrained", options.revision);
  options.signal?.throwIfAborted();
  // The hub's library takes long to load, so it is loaded only when it is needed.
  const { snapshotOf } = await import("./snapshot.js");
  return snapshotOf(name, revision, options, inspect);
}

/**
 * Returns the revision to download, "main" if none is given.
 *
 * @throws ERR_ARGUMENT if it has a wrong form.
 */
export function checkRevision(op: string, revision: unknown = "main"): string {
  if (typeof revision === "string" && /^\w[\w./-]*$/.test(revision) && !revision.includes("..")) return revision;
  throw new HeedError("ERR_ARGUMENT", `${op}: expected a branch, tag or commit, got ${describe(revision)}`);
}

async function isFolder(name: string): Promise<boolean> {
  return stat(name).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
