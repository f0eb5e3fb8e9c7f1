// Loads models from any source, together with their tokenizers.
import path from "node:path";
import { adapterNames } from "../adapters/adapters.js";
import { checkBoolean, checkChoice, checkObject } from "../util/check.js";
import type { ClassificationRecipe } from "../embed/classification.js";
import type { EmbeddingEncoder, EmbeddingRecipe } from "../embed/embed-texts.js";
import { describe, HeedError } from "../util/errors.js";
import { exists } from "../util/files.js";
import { NoSuchModelError } from "../util/no-such-model-error.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import type { ModelOptions } from "../models/model.js";
import { tokenizerFromFile } from "../tokenizer/from-json.js";
import { Llama2cTokenizer } from "../tokenizer/llama2c-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { checkTokenizer } from "./check-tokenizer.js";
import type { PretrainedKinds } from "./families/index.js";
import { readClassificationRecipe } from "./classification-recipe.js";
import { folderDefaults, type GenerationDefaults } from "./generation-config.js";
import { loadGguf } from "./gguf/load-gguf.js";
import { loadCTranslate2 } from "./families/load-ctranslate2.js";
import { kindsOfFolder, loadFolder, modelKinds, readBlueprint } from "./load-folder.js";
import { loadLlama2c } from "./families/load-llama2c.js";
import { folderTokenizer } from "./load-pretrained.js";
import { findModel, type ModelSource } from "./model-source.js";
import { adapterFiles, loadAdapter, readAdapterConfig } from "./peft.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";
import { takeAverage } from "./saved-tensors.js";
import { readRecipe } from "./sentence-transformers.js";
import type { StoredDTypeOptions } from "./stored-dtype.js";

/**
 * Purpose of a model: to continue texts ("causal"), to turn texts into vectors ("encoder"), to classify texts or rank
 * documents ("classifier"), or to turn one text into another ("encoder-decoder").
 */
export type ModelKind = (typeof modelKinds)[number];

/** Options of `load`. */
export interface LoadModelOptions<K extends ModelKind = ModelKind>
  extends PretrainedOptions, ModelOptions, LoadQuantizedOptions, StoredDTypeOptions {
  /** Kind that the model must have; another kind is an error. @default the kind that the source specifies */
  kind?: K;
  /** Tokenizer to use instead of the source's. @default the tokenizer of the source */
  tokenizer?: Tokenizer;
  /** Folder of an adapter in PEFT's layout, which is added to the model and active. @default none */
  adapter?: string;
  /**
   * True if the model gets the moving average of its weights, which a run of heed with `ema` saves in its checkpoints.
   * @default false
   */
  average?: boolean;
}

/** Conversion of source texts to tokens, and of target tokens to texts. */
export interface TextCodec {
  /** Returns the tokens of a source text. An empty text has no tokens. */
  encode(text: string): Promise<Int32Array>;
  /** Returns the text of target tokens. */
  decode(tokens: readonly number[]): string;
  /** Returns the text of source tokens. */
  decodeSource(tokens: readonly number[]): string;
}

/** Contents of a source, by the kind of its model. A tokenizer or codec is null if the source has none. */
export interface LoadedParts {
  causal: {
    kind: "causal";
    model: PretrainedKinds["causal"];
    tokenizer: Tokenizer | null;
    /** Options of `generate` that suit the model. */
    defaults: GenerationDefaults;
  };
  encoder: {
    kind: "encoder";
    model: EmbeddingEncoder;
    tokenizer: Tokenizer | null;
    /** Pooling and normalisation of vectors, or null if the source does not specify them. */
    recipe: EmbeddingRecipe | null;
  };
  classifier: {
    kind: "classifier";
    model: PretrainedKinds["classifier"];
    tokenizer: Tokenizer | null;
    /** Functions that turn the model's logits into scores, as far as the source specifies them. */
    recipe: ClassificationRecipe;
  };
  "encoder-decoder": { kind: "encoder-decoder"; model: PretrainedKinds["encoder-decoder"]; codec: TextCodec | null };
}

/** Loads a model that continues texts, as `loadParts` does for the kind "causal". */
export async function loadModel(name: string, options: LoadModelOptions = {}): Promise<LoadedParts["causal"]> {
  checkObject("loadModel", "options", options);
  return (await loadParts("loadModel", name, { ...options, kind: "causal" })) as LoadedParts["causal"];
}

/**
 * Loads a model for inference. `name` is a path or a name on the hub (see `findModel`).
 *
 * @throws ERR_IO or ERR_FORMAT if the model is missing or incomplete; the message names the file.
 * @throws ERR_ARGUMENT if an option is invalid, or the model is not of the requested kind.
 */
export async function loadParts(op: string, name: string, options: LoadModelOptions): Promise<LoadedParts[ModelKind]> {
  checkObject(op, "options", options);
  const { kind, tokenizer, adapter, average = false, storedDtype = false } = options;
  if (adapter !== undefined && typeof adapter !== "string")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected adapter to be the path of a folder, got ${describe(adapter)}`);
  if (kind !== undefined) checkChoice(op, "kind", kind, modelKinds);
  if (tokenizer !== undefined && typeof (tokenizer as Tokenizer | null)?.encode !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected tokenizer to be a tokenizer, got ${describe(tokenizer)}`);
  checkBoolean(op, "average", average);
  checkBoolean(op, "storedDtype", storedDtype);
  if (average && quantizeOptionsOf(op, options))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected either average or quantize, got both`);
  quantizeOptionsOf(op, options);
  const checkKind = (found: readonly ModelKind[]): ModelKind => {
    if (kind === undefined || found.includes(kind)) return kind ?? found[0]!;
    throw new NoSuchModelError(
      "ERR_ARGUMENT",
      `${op}: expected ${name} to be a model of kind "${kind}", got one of kind "${found[0]!}"`,
    );
  };
  const source = await findModel(name, options, async (folder) => {
    const kinds = await kindsOfFolder(folder);
    const wanted = checkKind(kinds);
    await readBlueprint(folder, kinds.includes("causal") ? "causal" : wanted);
  });
  if (average && source.format !== "adapter" && source.format !== "folder")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a checkpoint of a run for average, got ${name}`);
  if (source.format === "adapter") return adapted(op, name, source.folder, options);
  const parts = await partsOf(name, source, checkKind(await kindsOf(source)), options);
  const own = source.format === "folder" ? await ownAdapter(source.folder) : null;
  const whole = await withAdapters(parts, [own, adapter ?? null]);
  return average && source.format === "folder" ? averaged(whole, source.folder, own !== null) : whole;
}

/** Loads the model that an adapter refers to, and adds the adapter. */
async function adapted(
  op: string,
  name: string,
  folder: string,
  { adapter, average = false, ...options }: LoadModelOptions,
): Promise<LoadedParts[ModelKind]> {
  const { base } = await readAdapterConfig(folder);
  if (base === null)
    throw new HeedError(
      "ERR_FORMAT",
      `${name}: expected adapter_config.json to name its model (base_model_name_or_path), got none; load the model, and pass the folder as its adapter`,
    );
  const tokenizer = options.tokenizer ?? (await tokenizerIn(folder)) ?? undefined;
  const parts = await loadParts(op, base, { ...options, ...(tokenizer && { tokenizer }) });
  if (adapterNames(parts.model).length > 0) {
    parts.model.dispose();
    throw new HeedError(
      "ERR_FORMAT",
      `${name}: expected an adapter of a model without adapters, got one of ${base}; merge that first (heed merge)`,
    );
  }
  const whole = await withAdapters(parts, [folder, adapter ?? null]);
  return average ? averaged(whole, folder, true) : whole;
}

/** Gives a model the moving average of its weights in the folder of a checkpoint. */
async function averaged<P extends LoadedParts[ModelKind]>(parts: P, folder: string, adapted: boolean): Promise<P> {
  try {
    await takeAverage(parts.model, folder, adapted);
    return parts;
  } catch (error) {
    parts.model.dispose();
    throw error;
  }
}

/** Returns the folder itself if it has an adapter beside its model, as a checkpoint of heed may have. */
async function ownAdapter(folder: string): Promise<string | null> {
  return (await exists(path.join(folder, adapterFiles.config))) ? folder : null;
}

/** Adds the adapters in the folders to a model; the last one is active. */
async function withAdapters<P extends LoadedParts[ModelKind]>(
  parts: P,
  folders: readonly (string | null)[],
): Promise<P> {
  const { training } = parts.model;
  try {
    for (const [i, folder] of folders.entries())
      if (folder !== null) await loadAdapter(folder, parts.model, { name: i === 0 ? "default" : "adapter" });
  } catch (error) {
    parts.model.dispose();
    throw error;
  }
  if (!training) parts.model.eval();
  return parts;
}

async function kindsOf(source: Exclude<ModelSource, { format: "adapter" }>): Promise<readonly ModelKind[]> {
  if (source.format === "folder") return kindsOfFolder(source.folder);
  return source.format === "ctranslate2" ? ["encoder-decoder"] : ["causal"];
}

async function partsOf(
  name: string,
  source: Exclude<ModelSource, { format: "adapter" }>,
  kind: ModelKind,
  options: LoadModelOptions,
): Promise<LoadedParts[ModelKind]> {
  const { tokenizer: given, ...others } = options;
  if (source.format === "folder") return folderParts(name, source.folder, kind, options);
  if (source.format === "ctranslate2") {
    const { model, source: from, target } = await loadCTranslate2(source.folder, others);
    const own = {
      encode: (text: string) => Promise.resolve(from.encode(text)),
      decode: target.decode.bind(target),
      decodeSource: from.decode.bind(from),
    };
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
  const own = given ? null : await tokenizerIn(folder);
  const tokenizer = given ?? own;
  if (kind === "causal") {
    const defaults = await folderDefaults(folder);
    const { model } = await loadFolder(folder, kind, options);
    return checked(name, { kind, model, tokenizer, defaults }, own, given);
  }
  if (kind === "encoder") {
    const recipe = await readRecipe(folder);
    // The files of a decoder that makes vectors are those of a model that continues texts.
    const isDecoder = (await kindsOfFolder(folder)).includes("causal");
    const { model } = await loadFolder(folder, isDecoder ? "causal" : kind, options);
    return checked(name, { kind, model, tokenizer, recipe }, own, given);
  }
  if (kind === "classifier") {
    const recipe = await readClassificationRecipe(folder);
    const { model } = await loadFolder(folder, kind, options);
    return checked(name, { kind, model, tokenizer, recipe }, own, given);
  }
  const { model } = await loadFolder(folder, kind, options);
  return checked(name, { kind, model, codec: tokenizer && codecOf(tokenizer) }, own, given);
}

/** Returns the tokenizer in a folder, or null if it has none. Checkpoints of heed have a file of their own. */
export async function tokenizerIn(folder: string): Promise<Tokenizer | null> {
  return (await tokenizerFromFile(path.join(folder, "heed-tokenizer.json"))) ?? (await folderTokenizer(folder));
}

/**
 * Returns the parts if their tokenizer fits the model; otherwise disposes the model. `given` is the tokenizer that the
 * caller passed, `own` the source's.
 *
 * @throws ERR_ARGUMENT if `given` does not fit, ERR_FORMAT if `own` does not.
 */
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
  // Models often have more embeddings than tokens, up to a round number. Such an id has no text.
  const decode = (tokens: readonly number[]): string =>
    tokenizer.decode(tokens.filter((id) => id < tokenizer.vocabularySize));
  const encode = async (text: string): Promise<Int32Array> =>
    text === "" ? new Int32Array() : encodeText(tokenizer, text);
  return { encode, decode, decodeSource: decode };
}
