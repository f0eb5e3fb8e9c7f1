// Where a pretrained model is on this machine: a folder of the user's, or a model of the hub (huggingface.co), which is
// downloaded into the cache that Hugging Face's libraries share.
import { stat } from "node:fs/promises";
import { describe, HeedError } from "../errors.js";
import type { Inspection, PretrainedOptions } from "./pretrained-options.js";

/**
 * Resolves to the folder of a model: `name` itself if it is a folder, or the snapshot of a model of the hub
 * ("owner/name"). What was downloaded before is not downloaded again, several may load a model at the same time, and the
 * configuration comes before the weights. A whole snapshot of the cache is taken without a request where `revision` is a
 * commit, and where the hub cannot be reached or is out of order.
 *
 * @throws ERR_IO where neither the hub nor the cache has the model, or the disk has no room for it; ERR_FORMAT where what
 * comes is not what the hub announced; ERR_ARGUMENT for a name, an address or a token of the wrong form. Rejects with the
 * signal's reason.
 */
export async function pretrainedFolder(name: string, options: PretrainedOptions = {}): Promise<string> {
  return inspectedFolder(name, options);
}

/** Does what `pretrainedFolder` does, and calls `inspect` before weights are downloaded. */
export async function inspectedFolder(name: string, options: PretrainedOptions, inspect?: Inspection): Promise<string> {
  if (typeof name !== "string")
    throw new HeedError("ERR_ARGUMENT", `pretrained: expected a folder or the name of a model, got ${describe(name)}`);
  if (await isFolder(name)) return name;
  if (!/^[\w][\w.-]*(\/[\w][\w.-]*)?$/.test(name))
    throw new HeedError(
      "ERR_IO",
      `pretrained: expected a folder or a model's name (owner/name), got ${describe(name)}`,
    );
  const { revision = "main", signal } = options;
  if (typeof revision !== "string" || !/^\w[\w./-]*$/.test(revision) || revision.includes(".."))
    throw new HeedError("ERR_ARGUMENT", `pretrained: expected a branch, tag or commit, got ${describe(revision)}`);
  signal?.throwIfAborted();
  // The hub's library takes long to load: those wait for it who ask the hub.
  const { snapshotOf } = await import("./snapshot.js");
  return snapshotOf(name, revision, options, inspect);
}

async function isFolder(name: string): Promise<boolean> {
  return stat(name).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
