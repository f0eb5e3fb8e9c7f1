// Published models by the name of a folder or of a model of the hub.
import path from "node:path";
import { checkObject } from "../check.js";
import type { EmbeddingRecipe } from "../embed/embed-texts.js";
import { describe, HeedError } from "../errors.js";
import { ifThere } from "../files.js";
import { inspectedFolder } from "../hub/pretrained-folder.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { ModelOptions } from "../models/model.js";
import { checkTokenizer } from "./check-tokenizer.js";
import { families, type PretrainedKinds } from "./families/index.js";
import { loadFolder, readBlueprint } from "./load-folder.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";
import { readRecipe } from "./sentence-transformers.js";

export interface LoadPretrainedOptions<K extends keyof PretrainedKinds = "causal">
  extends PretrainedOptions, ModelOptions, LoadQuantizedOptions {
  /** What the model is for: "causal", models that predict the next token, unless given. */
  kind?: K;
}

export interface PretrainedModel<K extends keyof PretrainedKinds = "causal"> {
  model: PretrainedKinds[K];
  /** null where the folder has no tokenizer.json. */
  tokenizer: HuggingFaceTokenizer | null;
  /** Where the files are. */
  folder: string;
  /** Tensors of the files that the model has no use for, such as the heads of others of its family. */
  ignored: readonly string[];
  /** How `embedTexts` is to make vectors of texts; null where the folder does not say (as sentence-transformers' do). */
  recipe: EmbeddingRecipe | null;
}

/**
 * Loads a model for inference, in Hugging Face's format: `name` is a folder, or a model of the hub ("owner/name"), which
 * is downloaded. Throws ERR_IO or ERR_FORMAT, naming the file.
 */
export async function loadPretrained<K extends keyof PretrainedKinds = "causal">(
  name: string,
  options: LoadPretrainedOptions<K> = {},
): Promise<PretrainedModel<K>> {
  checkObject("loadPretrained", "options", options);
  const kind = options.kind ?? ("causal" as K);
  if (!Object.hasOwn(families, kind))
    throw new HeedError(
      "ERR_ARGUMENT",
      `loadPretrained: expected kind ${Object.keys(families).join(", ")}, got ${describe(kind)}`,
    );
  quantizeOptionsOf("loadPretrained", options);
  const folder = await inspectedFolder(name, options, (found) => readBlueprint(found, kind));
  const { model, ignored } = await loadFolder(folder, kind, options);
  try {
    const tokenizer = await folderTokenizer(folder);
    checkTokenizer(folder, tokenizer, model);
    const recipe = await readRecipe(folder);
    return { model, tokenizer, folder, ignored, recipe };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** The tokenizer.json of a folder; null where there is none. */
export async function folderTokenizer(folder: string): Promise<HuggingFaceTokenizer | null> {
  return ifThere(path.join(folder, "tokenizer.json"), () => HuggingFaceTokenizer.fromFolder(folder));
}
