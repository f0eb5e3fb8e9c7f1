// Loads published models from a folder or from the hub.
import path from "node:path";
import { checkObject } from "../util/check.js";
import type { EmbeddingRecipe } from "../embed/embed-texts.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { ifThere } from "../util/files.js";
import { inspectedFolder } from "../hub/pretrained-folder.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { ModelOptions } from "../models/model.js";
import { checkTokenizer } from "./check-tokenizer.js";
import { families, type PretrainedKinds } from "./families/index.js";
import { loadFolder, readBlueprint } from "./load-folder.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";
import type { StoredDTypeOptions } from "./stored-dtype.js";
import { readRecipe } from "./sentence-transformers.js";

/** Options of `loadPretrained`. */
export interface LoadPretrainedOptions<K extends keyof PretrainedKinds = "causal">
  extends PretrainedOptions, ModelOptions, LoadQuantizedOptions, StoredDTypeOptions {
  /** Kind of model to load; see `PretrainedKinds`. @default "causal", models that predict the next token */
  kind?: K;
}

/** A model with its tokenizer and the place of its files. */
export interface PretrainedModel<K extends keyof PretrainedKinds = "causal"> {
  /** The model. Dispose it to free its memory. */
  model: PretrainedKinds[K];
  /** Tokenizer of the model, or null if the folder has no tokenizer.json. */
  tokenizer: HuggingFaceTokenizer | null;
  /** Folder of the model's files. */
  folder: string;
  /** Names of tensors that the model does not use, such as the heads of other models of its family. */
  ignored: readonly string[];
  /**
   * Options with which `embedTexts` produces the vectors that the model was trained for, or null if the folder
   * specifies none. Only folders of sentence-transformers specify them.
   */
  recipe: EmbeddingRecipe | null;
}

/**
 * Loads a model in Hugging Face's format for inference. `name` is a folder, or a model of the hub ("owner/name"), which
 * is downloaded.
 *
 * @example
 * await savePretrained("saved-gpt", gpt, { tokenizer });
 * const saved = await loadPretrained("saved-gpt"); // or "openai-community/gpt2"
 * const { text } = await generate(saved.model, saved.tokenizer, "The whale", { maxTokens: 5 });
 *
 * @throws ERR_IO or ERR_FORMAT if a file is missing, malformed or of another kind of model; the message names it.
 * @throws ERR_ARGUMENT if an option is invalid.
 * @throws The signal's reason if it is aborted.
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
      `loadPretrained: expected kind to be ${oneOf(Object.keys(families))}, got ${describe(kind)}`,
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

/** Returns the tokenizer in a folder's tokenizer.json, or null if that file does not exist. */
export async function folderTokenizer(folder: string): Promise<HuggingFaceTokenizer | null> {
  return ifThere(path.join(folder, "tokenizer.json"), () => HuggingFaceTokenizer.fromFolder(folder));
}
