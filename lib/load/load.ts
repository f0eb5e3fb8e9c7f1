// The one way to a published or a trained model that is ready for use.
import type { LoadedParts, LoadModelOptions, ModelKind } from "../pretrained/load-model.js";
import { loadParts } from "../pretrained/load-model.js";
import { EmbeddingModel } from "./embedding-model.js";
import { LanguageModel } from "./language-model.js";
import { Translator } from "./translator.js";

/** Maps each kind of model to the class that `load` returns for it. */
export interface ModelKinds {
  /** Models that continue texts. */
  causal: LanguageModel;
  /** Models that make vectors of texts. */
  encoder: EmbeddingModel;
  /** Models that make one text of another. */
  "encoder-decoder": Translator;
}

export type LoadOptions<K extends ModelKind = ModelKind> = LoadModelOptions<K>;

/**
 * Loads a model for inference. `source` is
 *
 * - a run of heed (`heed train --out`) or one of its checkpoints,
 * - a folder in Hugging Face's format, or one of CTranslate2,
 * - a model of the hub, `owner/name`, or a GGUF file in one, `hf:owner/name/file.gguf`, which are downloaded,
 * - a GGUF file, of a model in several any of them, or a file of llama2.c with its tokenizer beside it, or a folder
 *   with one such model.
 *
 * What comes back has the methods of its kind: `generate` and `chat`, `embed`, or `translate`. With `kind`, its type has those
 * alone; without, a method of another kind throws ERR_ARGUMENT when it is used. Dispose it to free its memory.
 *
 * @example
 * // This downloads a model.
 * const model = await load("Qwen/Qwen3-0.6B", { kind: "causal" });
 * const { text } = await model.generate("The whale", { maxTokens: 50 });
 *
 * @throws ERR_IO or ERR_FORMAT, naming the file, where the model is missing or not whole; ERR_ARGUMENT for a bad option and
 * where the model is not of the kind that was asked for. Rejects with the signal's reason.
 */
export async function load<K extends ModelKind = ModelKind>(
  source: string,
  options: LoadOptions<K> = {},
): Promise<ModelKinds[K]> {
  return wrapped(await loadParts("load", source, options)) as ModelKinds[K];
}

function wrapped(parts: LoadedParts[ModelKind]): ModelKinds[ModelKind] {
  switch (parts.kind) {
    case "causal":
      return new LanguageModel(parts);
    case "encoder":
      return new EmbeddingModel(parts);
    case "encoder-decoder":
      return new Translator(parts);
  }
}
