// Loads a published or trained model, ready for use, from any source.
import { checkObject } from "../util/check.js";
import type { LoadedParts, LoadModelOptions, ModelKind } from "../pretrained/load-model.js";
import { loadParts } from "../pretrained/load-model.js";
import { ClassifierModel } from "./classifier-model.js";
import { EmbeddingModel } from "./embedding-model.js";
import { LanguageModel, type OwnEngineOptions } from "./language-model.js";
import { Translator } from "./translator.js";

/** Class that `load` returns for each kind of model. */
export interface ModelKinds {
  /** A model that continues texts. */
  causal: LanguageModel;
  /** A model that turns texts into vectors. */
  encoder: EmbeddingModel;
  /** A model that classifies texts, or ranks documents. */
  classifier: ClassifierModel;
  /** A model that turns one text into another. */
  "encoder-decoder": Translator;
}

/** Options of `load`. */
export interface LoadOptions<K extends ModelKind = ModelKind> extends LoadModelOptions<K> {
  /** Options of the engine of a model that continues texts, such as its memory for keys and values. @default {} */
  engine?: OwnEngineOptions;
}

/**
 * Loads a model for inference, in the dtype in which its numbers are stored unless `dtype` is given. `source` is one of
 * these:
 *
 * - a run of heed (the folder of `heed train --out`), or one of its checkpoints
 * - a folder in the format of Hugging Face or of CTranslate2
 * - a model of the hub in Hugging Face's format, `owner/name`, which is downloaded
 * - a GGUF file in a model of the hub, `hf:owner/name/file.gguf`, which is downloaded
 * - a GGUF file, or any file of a GGUF model in several files
 * - a file of llama2.c, whose tokenizer is in the same folder
 * - a folder that contains one GGUF or llama2.c model
 *
 * The result has the methods of the model's kind: `generate` and `chat`, `embed`, `classify` and `rank`, or
 * `translate`. If you pass `kind`, the type of the result has only those methods. Otherwise, calling a method of another
 * kind throws ERR_ARGUMENT. Dispose the result to free its memory.
 *
 * @example
 * // This downloads a model.
 * const model = await load("Qwen/Qwen3-0.6B", { kind: "causal" });
 * const { text } = await model.generate("The whale", { maxTokens: 50 });
 *
 * @throws ERR_IO or ERR_FORMAT if the model is missing or incomplete; the message names the file.
 * @throws ERR_ARGUMENT if an option is invalid, or the model is not of the requested kind.
 * @throws The signal's reason if it is aborted.
 */
export async function load<K extends ModelKind = ModelKind>(
  source: string,
  options: LoadOptions<K> = {},
): Promise<ModelKinds[K]> {
  checkObject("load", "options", options);
  const { engine, storedDtype = true, ...others } = options;
  return wrapped(await loadParts("load", source, { ...others, storedDtype }), engine) as ModelKinds[K];
}

function wrapped(parts: LoadedParts[ModelKind], engine: OwnEngineOptions | undefined): ModelKinds[ModelKind] {
  switch (parts.kind) {
    case "causal":
      return new LanguageModel({ ...parts, engine });
    case "encoder":
      return new EmbeddingModel(parts);
    case "classifier":
      return new ClassifierModel(parts);
    case "encoder-decoder":
      return new Translator(parts);
  }
}
