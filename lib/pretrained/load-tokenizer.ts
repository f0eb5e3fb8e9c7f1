import path from "node:path";
import { HeedError } from "../util/errors.js";
import { exists } from "../util/files.js";
import { readGguf } from "../formats/gguf.js";
import { replacedFolder } from "../formats/replace-files.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import { Llama2cTokenizer } from "../tokenizer/llama2c-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { GgufMetadata } from "./gguf/metadata.js";
import { tokenizerOfGguf } from "./gguf/tokenizer.js";
import { tokenizerIn } from "./load-model.js";
import { findModel } from "./model-source.js";

const tokenizerFiles = /^((tokenizer|tokenizer_config|special_tokens_map|config)\.json|chat_template\.jinja)$/;

/**
 * Resolves to the tokenizer of a model, without its weights. `name` is what `load` takes, or a folder with nothing but a
 * tokenizer.json. Of a model on the hub, only the tokenizer is downloaded.
 *
 * @example
 * // This downloads a tokenizer.
 * const tokenizer = await loadTokenizer("Qwen/Qwen3-0.6B");
 *
 * @throws ERR_IO if nothing is found, or there is no tokenizer.
 * @throws ERR_FORMAT if a file is damaged.
 * @throws ERR_ARGUMENT if the name has a wrong form.
 */
export async function loadTokenizer(name: string, options: PretrainedOptions = {}): Promise<Tokenizer> {
  const tokenizer = await find(name, options);
  if (tokenizer) return tokenizer;
  throw new HeedError("ERR_IO", `${name}: expected a model with a tokenizer, got one without`);
}

async function find(name: string, options: PretrainedOptions): Promise<Tokenizer | null> {
  // A folder whose model is being replaced may have the tokenizer of the new one already.
  const replaces = typeof name === "string" && (await replacedFolder(name, "config.json")) !== null;
  for (const file of ["heed-tokenizer.json", "tokenizer.json"])
    if (typeof name === "string" && !replaces && (await exists(path.join(name, file)))) return tokenizerIn(name);
  const source = await findModel(name, { files: (file) => tokenizerFiles.test(file), ...options });
  if (source.format === "folder" || source.format === "adapter") return tokenizerIn(source.folder);
  if (source.format === "llama2c")
    return source.tokenizer === null ? null : Llama2cTokenizer.fromFile(source.tokenizer);
  if (source.format === "ctranslate2") return null;
  await using file = await readGguf(source.file);
  return await tokenizerOfGguf(new GgufMetadata(source.file, file.metadata));
}
