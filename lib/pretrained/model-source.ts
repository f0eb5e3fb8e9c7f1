// Finds out what the name of a model refers to: a run of heed, a folder in the format of Hugging Face or CTranslate2, a
// model of the hub or a GGUF file in one, a GGUF file, or a file of llama2.c.
import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { describe, HeedError } from "../util/errors.js";
import { exists, naming } from "../util/files.js";
import { partsOfGguf } from "../formats/gguf-parts.js";
import { isLlama2cTokenizer } from "../formats/llama2c.js";
import { replacedFolder } from "../formats/replace-files.js";
import { latestVersion } from "../formats/versioned-folder.js";
import { NoSuchModelError } from "../util/no-such-model-error.js";
import { inspectedFolder } from "../hub/pretrained-folder.js";
import type { Inspection, PretrainedOptions } from "../hub/pretrained-options.js";
import { adapterFiles } from "./peft.js";
import { isCTranslate2 } from "./families/load-ctranslate2.js";

/** Place and format of a model. */
export type ModelSource =
  /** A folder with a config.json, such as a checkpoint of heed. */
  | { format: "folder"; folder: string }
  /** A folder with an adapter in PEFT's layout and without a model. */
  | { format: "adapter"; folder: string }
  | { format: "ctranslate2"; folder: string }
  /** A GGUF file. If the model has several files, this is one of them. */
  | { format: "gguf"; file: string }
  /** A file of llama2.c. `tokenizer` is the tokenizer file in the same folder, or null if there is none. */
  | { format: "llama2c"; file: string; tokenizer: string | null };

const forms =
  "a run of heed (train --out), a Hugging Face folder (config.json), a CTranslate2 folder (model.bin), a .gguf file, a " +
  "llama2.c .bin file, a folder with one such file, a model on the hub (owner/name), or a GGUF file on the hub " +
  "(hf:owner/name/file.gguf)";
const hubName = String.raw`\w[\w.-]*\/\w[\w.-]*`;

/**
 * Finds the model that a name refers to: a file or a folder, otherwise a model of the hub, which is downloaded. Its
 * weights are downloaded after `inspect` has checked the other files.
 *
 * @throws ERR_IO if nothing is found.
 * @throws ERR_FORMAT if the file or folder is not a model, or contains several models.
 * @throws ERR_ARGUMENT if the name has a wrong form.
 */
export async function findModel(
  name: string,
  options: PretrainedOptions = {},
  inspect?: Inspection,
): Promise<ModelSource> {
  if (typeof name !== "string" || name === "")
    throw new NoSuchModelError("ERR_ARGUMENT", `model: expected ${forms}, got ${describe(name)}`);
  if (name.startsWith("hf:")) return onHub(name, options, inspect);
  const found = await stat(name).catch(() => null);
  if (found?.isDirectory()) return inFolder(name);
  if (found) return ofFile(name);
  if (!new RegExp(`^${hubName}$`).test(name))
    throw new NoSuchModelError("ERR_IO", `${name}: expected ${forms}, got no such file or folder`);
  try {
    return await onHub(`hf:${name}`, options, inspect);
  } catch (cause) {
    if (!(cause instanceof HeedError) || cause.code !== "ERR_IO") throw cause;
    const Kind = cause instanceof NoSuchModelError ? NoSuchModelError : HeedError;
    throw new Kind("ERR_IO", `${cause.message}; there is no file or folder of this name either`, { cause });
  }
}

/**
 * Downloads a model of the hub, "hf:owner/name", or a GGUF file in one, "hf:owner/name/file.gguf", with all of its
 * parts.
 */
async function onHub(name: string, options: PretrainedOptions, inspect?: Inspection): Promise<ModelSource> {
  const [, model, file] = new RegExp(`^hf:(${hubName})(?:\\/(.+\\.gguf))?$`, "s").exec(name) ?? [];
  if (model === undefined)
    throw new NoSuchModelError(
      "ERR_ARGUMENT",
      `model: expected hf:owner/name or hf:owner/name/file.gguf, got ${describe(name)}`,
    );
  if (file === undefined) {
    const folder = await inspectedFolder(model, options, inspect);
    return { format: (await isCTranslate2(folder)) ? "ctranslate2" : "folder", folder };
  }
  const wanted = new Set(partsOfGguf(file) ?? [file]);
  const folder = await inspectedFolder(model, { ...options, files: (other) => wanted.has(other) });
  return { format: "gguf", file: path.join(folder, file) };
}

async function ofFile(file: string): Promise<ModelSource> {
  if (file.endsWith(".gguf")) return { format: "gguf", file };
  if (file.endsWith(".bin")) return { format: "llama2c", file, tokenizer: await tokenizerBeside(file) };
  throw new HeedError("ERR_FORMAT", `${file}: expected ${forms}, got a file of another kind`);
}

async function inFolder(folder: string): Promise<ModelSource> {
  const latest = await latestVersion(folder);
  const at = latest ?? folder;
  if (await isCTranslate2(at)) return { format: "ctranslate2", folder: at };
  if (await exists(path.join(at, "config.json"))) return { format: "folder", folder: at };
  // Saving another model in the folder was interrupted, and the old one is in a subfolder.
  const before = await replacedFolder(at, "config.json");
  if (before !== null) return { format: "folder", folder: before };
  if (await exists(path.join(at, adapterFiles.config))) return { format: "adapter", folder: at };
  if (latest) return { format: "folder", folder: latest };
  const names = await naming(folder, () => readdir(folder));
  const models = names.filter((name) => isFirstGguf(name) || (name.endsWith(".bin") && !isLlama2cTokenizer(name)));
  if (models.length === 1) return ofFile(path.join(folder, models[0]!));
  if (models.length === 0)
    throw new NoSuchModelError("ERR_IO", `${folder}: expected ${forms}, got a folder with none of these`);
  throw new HeedError("ERR_FORMAT", `${folder}: expected one model, got ${models.sort().join(", ")}: name one of them`);
}

/** Returns true if a file is a GGUF model or the first part of one. */
function isFirstGguf(name: string): boolean {
  return name.endsWith(".gguf") && (partsOfGguf(name)?.[0] ?? name) === name;
}

async function tokenizerBeside(file: string): Promise<string | null> {
  const folder = path.dirname(file);
  const names = (await naming(folder, () => readdir(folder))).filter(isLlama2cTokenizer);
  if (names.length > 1)
    throw new HeedError("ERR_FORMAT", `${folder}: expected one tokenizer (tok*.bin), got ${names.sort().join(", ")}`);
  return names.length === 0 ? null : path.join(folder, names[0]!);
}
