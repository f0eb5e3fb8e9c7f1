// Models with what makes texts of their tokens, from whatever they are in.
import path from "node:path";
import { checkObject } from "../check.js";
import type { EmbeddingRecipe } from "../embed/embed-texts.js";
import { describe, HeedError } from "../errors.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import type { ModelOptions } from "../models/model.js";
import { tokenizerFromFile } from "../tokenizer/from-json.js";
import { Llama2cTokenizer } from "../tokenizer/llama2c-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { checkTokenizer } from "./check-tokenizer.js";
import type { PretrainedKinds } from "./families/index.js";
import { folderDefaults, type GenerationDefaults } from "./generation-config.js";
import { loadGguf } from "./gguf/load-gguf.js";
import { loadCTranslate2 } from "./load-ctranslate2.js";
import { kindOfFolder, loadFolder, modelKinds, readBlueprint } from "./load-folder.js";
import { loadLlama2c } from "./load-llama2c.js";
import { folderTokenizer } from "./load-pretrained.js";
import { findModel, type ModelSource } from "./model-source.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";
import { readRecipe } from "./sentence-transformers.js";

/** What models are for: to continue texts, to make vectors of them, or to make one text of another. */
export type ModelKind = (typeof modelKinds)[number];

export interface LoadModelOptions<K extends ModelKind = ModelKind>
  extends PretrainedOptions, ModelOptions, LoadQuantizedOptions {
  /** What the model is to be used for, which must be what it is. @default what the source says */
  kind?: K;
  /** Takes the place of the source's tokenizer, where it has one. */
  tokenizer?: Tokenizer;
}

/** A source's tokens of a text, and a target's text of tokens. */
export interface TextCodec {
  /** None of an empty text. */
  encode(text: string): Promise<Int32Array>;
  decode(tokens: readonly number[]): string;
}

/** What comes out of a source, by its kind. Each tokenizer is null where the source has none. */
export interface LoadedParts {
  causal: {
    kind: "causal";
    model: PretrainedKinds["causal"];
    tokenizer: Tokenizer | null;
    /** How the model is best used: options of `generate`. */
    defaults: GenerationDefaults;
  };
  encoder: {
    kind: "encoder";
    model: PretrainedKinds["encoder"];
    tokenizer: Tokenizer | null;
    /** How texts become vectors; null where the source does not say. */
    recipe: EmbeddingRecipe | null;
  };
  "encoder-decoder": { kind: "encoder-decoder"; model: PretrainedKinds["encoder-decoder"]; codec: TextCodec | null };
}

/** Loads a model that continues texts: `loadParts` of kind "causal". */
export async function loadModel(name: string, options: LoadModelOptions = {}): Promise<LoadedParts["causal"]> {
  checkObject("loadModel", "options", options);
  return (await loadParts("loadModel", name, { ...options, kind: "causal" })) as LoadedParts["causal"];
}

/**
 * Loads a model for inference, by the name of what it is in (see `findModel`). Throws ERR_IO or ERR_FORMAT, naming the file,
 * where it is missing or not whole, and ERR_ARGUMENT where it is not of the kind that was asked for.
 */
export async function loadParts(op: string, name: string, options: LoadModelOptions): Promise<LoadedParts[ModelKind]> {
  checkObject(op, "options", options);
  const { kind, tokenizer } = options;
  if (kind !== undefined && !modelKinds.includes(kind))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected kind ${modelKinds.join(", ")}, got ${describe(kind)}`);
  if (tokenizer !== undefined && typeof (tokenizer as Tokenizer | null)?.encode !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected tokenizer to be a tokenizer, got ${describe(tokenizer)}`);
  quantizeOptionsOf(op, options);
  const checkKind = (found: ModelKind): ModelKind => {
    if (kind === undefined || kind === found) return found;
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected ${name} to be a model of kind "${kind}", got one of kind "${found}"`,
    );
  };
  const source = await findModel(name, options, async (folder) => {
    await readBlueprint(folder, checkKind(await kindOfFolder(folder)));
  });
  return partsOf(name, source, checkKind(await kindOf(source)), options);
}

async function kindOf(source: ModelSource): Promise<ModelKind> {
  if (source.format === "folder") return kindOfFolder(source.folder);
  return source.format === "ctranslate2" ? "encoder-decoder" : "causal";
}

async function partsOf(
  name: string,
  source: ModelSource,
  kind: ModelKind,
  options: LoadModelOptions,
): Promise<LoadedParts[ModelKind]> {
  const { tokenizer: given, ...others } = options;
  if (source.format === "folder") return folderParts(name, source.folder, kind, options);
  if (source.format === "ctranslate2") {
    const { model, source: from, target } = await loadCTranslate2(source.folder, others);
    const own = { encode: (text: string) => Promise.resolve(from.encode(text)), decode: target.decode.bind(target) };
    return checked(name, { kind: "encoder-decoder", model, codec: given ? codecOf(given) : own }, null, given);
  }
  if (source.format === "gguf") {
    const { model, tokenizer, defaults } = await loadGguf(source.file, { ...others, readTokenizer: !given });
    return checked(name, { kind: "causal", model, tokenizer: given ?? tokenizer, defaults }, tokenizer, given);
  }
  const own = given || source.tokenizer === null ? null : await Llama2cTokenizer.fromFile(source.tokenizer);
  const model = await loadLlama2c(source.file, others);
  return checked(name, { kind: "causal", model, tokenizer: given ?? own, defaults: {} }, own, given);
}

async function folderParts(
  name: string,
  folder: string,
  kind: ModelKind,
  { tokenizer: given, ...options }: LoadModelOptions,
): Promise<LoadedParts[ModelKind]> {
  // heed's checkpoints have their own.
  const heeds = given ? null : await tokenizerFromFile(path.join(folder, "heed-tokenizer.json"));
  const own = given ? null : (heeds ?? (await folderTokenizer(folder)));
  const tokenizer = given ?? own;
  if (kind === "causal") {
    const defaults = await folderDefaults(folder);
    const { model } = await loadFolder(folder, kind, options);
    return checked(name, { kind, model, tokenizer, defaults }, own, given);
  }
  if (kind === "encoder") {
    const recipe = await readRecipe(folder);
    const { model } = await loadFolder(folder, kind, options);
    return checked(name, { kind, model, tokenizer, recipe }, own, given);
  }
  const { model } = await loadFolder(folder, kind, options);
  return checked(name, { kind, model, codec: tokenizer && codecOf(tokenizer) }, own, given);
}

/** The parts, once their tokenizer, which may be the one that was given, fits the model; the model is disposed otherwise. */
function checked<P extends LoadedParts[ModelKind]>(
  name: string,
  parts: P,
  own: Tokenizer | null,
  given: Tokenizer | undefined,
): P {
  try {
    checkTokenizer(name, given ?? own, parts.model, given ? "ERR_ARGUMENT" : "ERR_FORMAT");
    return parts;
  } catch (error) {
    parts.model.dispose();
    throw error;
  }
}

function codecOf(tokenizer: Tokenizer): TextCodec {
  return {
    encode: async (text) => (text === "" ? new Int32Array() : encodeText(tokenizer, text)),
    // Models often have more embeddings than there are tokens, a round number of them: such an id is no text.
    decode: (tokens) => tokenizer.decode(tokens.filter((id) => id < tokenizer.vocabularySize)),
  };
}
