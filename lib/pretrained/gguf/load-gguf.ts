// Loads a model, its tokenizer and its generation options from a GGUF file.
import { type GgufWeights, openGguf } from "../../formats/gguf-parts.js";
import { inFile } from "../../util/files.js";
import type { CausalDecoder } from "../../models/causal-decoder.js";
import type { HuggingFaceTokenizer } from "../../tokenizer/huggingface-tokenizer.js";
import type { ModelOptions } from "../../models/model.js";
import type { GenerationDefaults } from "../generation-config.js";
import { checkTokenizer } from "../check-tokenizer.js";
import { checkSizes, loadFrom } from "../load-weights.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "../quantize-options.js";
import { type StoredDTypeOptions, withStoredDtype } from "../stored-dtype.js";
import type { GgufArchitecture } from "./architecture.js";
import { defaultsOfGguf } from "./defaults.js";
import { architectureNames, architectures } from "./index.js";
import { GgufMetadata } from "./metadata.js";
import { tokenizerOfGguf } from "./tokenizer.js";

/** Options of `loadGguf`. */
export interface LoadGgufOptions extends ModelOptions, LoadQuantizedOptions, StoredDTypeOptions {
  /** Reads the tokenizer in the file. If it is false, the result's `tokenizer` is null. @default true */
  readTokenizer?: boolean;
}

/** A model from a GGUF file, with its tokenizer. */
export interface GgufModel {
  /** The model. Dispose it to free its memory. */
  model: CausalDecoder;
  /** Tokenizer of the model, or null if the file has none or it was not read. */
  tokenizer: HuggingFaceTokenizer | null;
  /** Options of `generate` that came with the model. */
  defaults: GenerationDefaults;
}

/**
 * Loads a model for inference, and its tokenizer, from a GGUF file of architecture llama, qwen2, qwen3 or gpt2,
 * quantised or not. If the model has several files, `path` may be any of them. Matrices in blocks (Q4_0, Q4_K and so on)
 * stay as they are stored: the kernels compute with the numbers that the formats' formulas give. Types may differ from
 * tensor to tensor.
 *
 * @example
 * await saveGguf("gpt-q8.gguf", gpt, { tokenizer, type: "Q8_0" });
 * const loaded = await loadGguf("gpt-q8.gguf");
 * const { text } = await generate(loaded.model, loaded.tokenizer, "The whale", { maxTokens: 5 });
 *
 * @throws ERR_IO or ERR_FORMAT if a file is missing or malformed; the message names it.
 * @throws ERR_ARGUMENT if an option is invalid.
 */
export async function loadGguf(path: string, options: LoadGgufOptions = {}): Promise<GgufModel> {
  await using file = await openGguf(path);
  const metadata = new GgufMetadata(path, file.metadata);
  const architecture = architectures.find(({ names }) => names.includes(metadata.architecture));
  if (!architecture) throw metadata.fault("general.architecture", architectureNames.join(", "), metadata.architecture);
  const tokenizer = options.readTokenizer === false ? null : await tokenizerOfGguf(metadata);
  const defaults = defaultsOfGguf(metadata);
  const model = await modelOf(architecture, metadata, file, options);
  try {
    checkTokenizer(path, tokenizer, model);
    return { model, tokenizer, defaults };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

async function modelOf(
  architecture: GgufArchitecture,
  metadata: GgufMetadata,
  file: GgufWeights,
  options: LoadGgufOptions,
): Promise<CausalDecoder> {
  const quantize = quantizeOptionsOf("loadGguf", options);
  const make = await inFile(file.path, () => architecture.read(metadata, file));
  const width = metadata.size("embedding_length");
  const last = `blk.${metadata.size("block_count") - 1}`;
  checkSizes(file, [
    ["token_embd.weight", [file.tensors.get("token_embd.weight")?.shape[0] ?? 1, width]],
    [`${last}.attn_norm.weight`, [width]],
    [`${last}.ffn_up.weight`, [metadata.size("feed_forward_length", 4 * width), width]],
  ]);
  const made = withStoredDtype(options, file);
  const { model } = await loadFrom(
    file,
    () => make(made),
    () => ({
      nameInFile: (name) => architecture.parameter(name).name,
      isTransposed: (name) => architecture.parameter(name).transposed ?? false,
      ignored: architecture.ignored,
      quantize,
      activations: options.activations,
      keepStored: options.quantize !== false,
      keepHalves: options.storedDtype ?? false,
    }),
  );
  return model;
}
