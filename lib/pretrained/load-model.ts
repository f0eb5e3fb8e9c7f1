// Models that continue a text, from whatever they are in.
import path from "node:path";
import { checkObject } from "../check.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import { tokenizerFromFile } from "../tokenizer/from-json.js";
import { Llama2cTokenizer } from "../tokenizer/llama2c-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { ModelOptions } from "../models/model.js";
import { checkTokenizer } from "./check-tokenizer.js";
import type { PretrainedKinds } from "./families/index.js";
import { folderDefaults, type GenerationDefaults } from "./generation-config.js";
import { loadGguf } from "./gguf/load-gguf.js";
import { loadFolder, readBlueprint } from "./load-folder.js";
import { loadLlama2c } from "./load-llama2c.js";
import { folderTokenizer } from "./load-pretrained.js";
import { findModel, type ModelSource } from "./model-source.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";

export interface LoadModelOptions extends PretrainedOptions, ModelOptions, LoadQuantizedOptions {}

export interface LoadedModel {
  model: PretrainedKinds["causal"];
  /** null where the model came without one. */
  tokenizer: Tokenizer | null;
  /** How the model is best used: options of `generate`. */
  defaults: GenerationDefaults;
}

/**
 * Loads a model that continues texts, for inference: a run's latest checkpoint or one of them, a folder in Hugging Face's
 * format or a model of the hub, a GGUF file, or a checkpoint of llama2.c with its tokenizer. Throws ERR_IO or ERR_FORMAT, naming the
 * file, where it is missing or not whole.
 */
export async function loadModel(name: string, options: LoadModelOptions = {}): Promise<LoadedModel> {
  checkObject("loadModel", "options", options);
  quantizeOptionsOf("loadModel", options);
  const source = await findModel(name, options, (folder) => readBlueprint(folder, "causal"));
  const loaded = await loadSource(source, options);
  const { model, tokenizer } = loaded;
  try {
    checkTokenizer(name, tokenizer, model);
    return loaded;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

async function loadSource(source: ModelSource, options: LoadModelOptions): Promise<LoadedModel> {
  switch (source.format) {
    case "folder": {
      const { folder } = source;
      // heed's checkpoints have their own.
      const own = await tokenizerFromFile(path.join(folder, "heed-tokenizer.json"));
      const tokenizer = own ?? (await folderTokenizer(folder));
      const defaults = await folderDefaults(folder);
      const { model } = await loadFolder(folder, "causal", options);
      return { model, tokenizer, defaults };
    }
    case "llama2c": {
      const tokenizer = source.tokenizer === null ? null : await Llama2cTokenizer.fromFile(source.tokenizer);
      return { model: await loadLlama2c(source.file, options), tokenizer, defaults: {} };
    }
    case "gguf":
      return loadGguf(source.file, options);
  }
}
