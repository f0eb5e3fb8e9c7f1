// Saves models in folders that Hugging Face's tools read: config.json, model.safetensors (in shards above a certain
// size), tokenizer.json and generation_config.json.
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { checkInteger, checkObject } from "../util/check.js";
import { bitsOf, type FloatDType } from "../core/dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { removeStaleTemporaries, syncPath, temporaryName, writeTextAtomic } from "../formats/atomic-file.js";
import { checkFreeSpace } from "../formats/free-space.js";
import { replaceFiles } from "../formats/replace-files.js";
import { type SafetensorsInput, writeSafetensors } from "../formats/safetensors.js";
import { tensorBytes } from "../formats/safetensors-header.js";
import type { EmbeddingRecipe } from "../embed/embed-texts.js";
import { CausalDecoder } from "../models/causal-decoder.js";
import { Encoder } from "../models/encoder.js";
import type { Module } from "../nn/module.js";
import { quantizationOf } from "../nn/quantization.js";
import { numel } from "../core/shape.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { inTurns } from "../util/turns.js";
import { quantizationEntry } from "./code-file.js";
import { codeTensors } from "./code-tensors.js";
import type { FamilySaving } from "./families/family.js";
import { savedPieces, savingOf } from "./families/saving.js";
import { type GenerationDefaults, toGenerationConfig } from "./generation-config.js";
import { jsonParts } from "../util/json.js";
import { toHuggingFaceTokenizer } from "../tokenizer/to-huggingface-tokenizer.js";
import type { SaveProgress } from "./save-progress.js";
import { ofRecipe, poolingFolder, type RecipeFiles, recipeFiles } from "./sentence-transformers.js";

/** Options of `savePretrained`. */
export interface SavePretrainedOptions {
  /** Tokenizer to save with the model. @default null */
  tokenizer?: Tokenizer | null;
  /** Generation options to save with the model. @default {} */
  defaults?: GenerationDefaults;
  /**
   * Recipe by which the model makes vectors, such as that of an `EmbeddingModel`, in the files of sentence-transformers. It
   * needs a model that makes vectors: a `Bert`, `GPT` or `Llama`.
   *
   * @default null
   */
  recipe?: EmbeddingRecipe | null;
  /** Dtype of the numbers in the file, except those of quantised weights. @default the dtype of the model */
  dtype?: FloatDType;
  /** Most bytes of tensors in one file. @default 5e9 */
  shardBytes?: number;
  /** Replaces the files of a model that the folder contains already. @default false */
  overwrite?: boolean;
  /** Called after each tensor. */
  onProgress?: (progress: SaveProgress) => void;
}

/**
 * Saves a model, and its tokenizer, in a folder. If the process is killed, the folder has a complete model or none. With
 * `overwrite`, `load` then finds the old model or the new one, and the next call tidies up.
 *
 * The weights of a quantised model are saved as their codes and scales, which `load` reads back exactly; see
 * "quantization_config" in docs/performance/quantization.md for the tensors in the file.
 *
 * With `overwrite`, the old model stays until the new one is complete on the same disk, which must have room for both.
 * If it cannot be replaced, it is put back.
 *
 * @example
 * await savePretrained("whale", gpt, { tokenizer });
 * using model = await load("whale", { kind: "causal" });
 * const { text } = await model.generate("The whale", { maxTokens: 5 });
 *
 * @throws ERR_ARGUMENT if the format has no form for the model or the tokenizer, or the model's weights are in blocks of a
 * GGUF file or quantised in different ways.
 * @throws ERR_DTYPE if `dtype` is not a floating-point type.
 * @throws ERR_RANGE if `shardBytes` is not a positive integer.
 * @throws ERR_BUSY if another process replaces the model in the folder at the same time.
 * @throws ERR_IO if the folder is not empty (without `overwrite`), cannot be written, or its disk has no room.
 */
export async function savePretrained(
  folder: string,
  model: Module,
  options: SavePretrainedOptions = {},
): Promise<void> {
  checkObject("savePretrained", "options", options);
  const { tokenizer = null, overwrite = false } = options;
  const saving = savingOf("savePretrained", model, { coded: true });
  const quantization = quantizationOf("savePretrained", model);
  const present = await naming(folder, () => entriesOf(folder));
  const recipe = options.recipe ? recipeOf(model, options.recipe, present ?? []) : null;
  const config = {
    ...saving.toConfig(model),
    ...recipe?.config,
    ...(quantization && { quantization_config: quantizationEntry(quantization) }),
  };
  const texts = new Map<string, readonly string[]>([
    ...(tokenizer ? await tokenizerFiles(tokenizer) : []),
    ...generationFile(options.defaults ?? {}, tokenizer),
    ...Array.from(recipe?.files ?? [], ([name, content]) => [name, json(content)] as const),
  ]);
  const dtype = options.dtype ?? [...model.namedParameters()][0]?.[1].modelDType ?? "f32";
  if (!Object.hasOwn(fileTypes, dtype))
    throw new HeedError("ERR_DTYPE", `savePretrained: expected dtype to be f32, bf16 or f16, got ${describe(dtype)}`);
  const tensors = tensorsOf(model, saving, dtype, options.onProgress);
  const { shardBytes = 5e9 } = options;
  checkInteger("savePretrained", "shardBytes", shardBytes, 1);

  await naming(folder, async () => {
    if (present && present.length > 0 && !overwrite)
      throw new HeedError(
        "ERR_IO",
        `${folder}: expected a folder that is new or empty, got one with ${present[0]} in it`,
      );
    // If the folder exists, the temporary one is inside it: the folder may be a mount point or a link to another disk.
    const temporary = temporaryName(present ? path.join(folder, "model") : path.resolve(folder));
    try {
      await mkdir(path.dirname(temporary), { recursive: true });
      await mkdir(temporary);
      await checkFreeSpace(temporary, bytesIn(tensors), folder);
      await writeWeights(temporary, tensors, shardBytes);
      for (const [name, text] of texts) {
        await mkdir(path.dirname(path.join(temporary, name)), { recursive: true });
        await writeTextAtomic(path.join(temporary, name), text);
      }
      await writeTextAtomic(
        path.join(temporary, key),
        json({ ...config, ...tokenIds(tokenizer), torch_dtype: torchTypes[dtype] }),
      );
      await syncPath(temporary);
      if (!present) await rename(temporary, folder);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
    const [parent, own] = [path.dirname(path.resolve(folder)), path.basename(path.resolve(folder))];
    // A process that was killed while it made the folder has left its files beside it. Nothing else depends on them, and
    // the parent may be a folder that this process cannot read.
    await removeStaleTemporaries(parent, own).catch(() => undefined);
    if (!present) return syncPath(parent);
    await replaceFiles(folder, temporary, { replaces: (name) => ofModel.test(name) || ofRecipe.test(name), key });
    // Nothing names the folder of an earlier recipe any more.
    const old = present.filter((name) => poolingFolder.test(name));
    for (const name of old) await rm(path.join(folder, name), { recursive: true, force: true });
    await removeStaleTemporaries(folder);
  });
}

/** Returns the files of a recipe; those of the pooling step are in a folder that is not among `present`. */
function recipeOf(model: Module, recipe: EmbeddingRecipe, present: readonly string[]): RecipeFiles {
  checkObject("savePretrained", "recipe", recipe);
  if (!(model instanceof Encoder || model instanceof CausalDecoder))
    throw new HeedError(
      "ERR_ARGUMENT",
      `savePretrained: expected a model that makes vectors for the option recipe, got ${describe(model)}`,
    );
  // A folder cannot be replaced in one step as a file can.
  let number = 1;
  while (present.includes(`${number}_Pooling`)) number++;
  return recipeFiles("savePretrained", recipe, model.config, `${number}_Pooling`);
}

/**
 * File that makes a folder a model. It is removed first and written last, so that a mixture of two models is never
 * loaded.
 */
const key = "config.json";

/** Files that belong to a model. A new model must not find those of an old one. */
const ofModel =
  /^(model.*\.safetensors(\.index\.json)?|(generation_)?config\.json|tokenizer(_config)?\.json|chat_template\.jinja|heed-tokenizer\.json)$/;

const fileTypes = { f32: "F32", bf16: "BF16", f16: "F16" } as const;
const torchTypes = { f32: "float32", bf16: "bfloat16", f16: "float16" } as const;

interface Input extends SafetensorsInput {
  readonly data: () => AsyncIterable<ArrayBufferView>;
}

function tensorsOf(
  model: Module,
  saving: FamilySaving,
  dtype: FloatDType,
  onProgress: SavePretrainedOptions["onProgress"],
): Input[] {
  const copies = Object.entries(saving.copies?.(model) ?? {});
  const inputs = [...model.namedParameters()].flatMap(([parameter, tensor]) => {
    const whole = { name: saving.nameInFile?.(model, parameter) ?? parameter, shape: tensor.shape };
    let at = 0;
    const parts = (saving.tensors?.(model, parameter, tensor.shape) ?? [whole]).map(({ name, shape }) => {
      const from = at;
      at += numel(shape);
      return { parameter, tensor, name, shape, from };
    });
    const again = copies.filter(([, of]) => of === parameter);
    return [...parts, ...again.map(([name]) => ({ parameter, tensor, name, shape: tensor.shape, from: 0 }))];
  });
  const floats = inputs.map(({ parameter, tensor, name, shape, from }): Input => ({
    name,
    dtype: fileTypes[dtype],
    shape,
    data: async function* () {
      for await (const values of savedPieces(saving, model, parameter, tensor, from, numel(shape)))
        yield dtype === "f32" ? values : bitsOf(dtype, values);
    },
  }));
  const tensors: Input[] = [...floats, ...codeTensors(model, saving)];
  let written = 0;
  return tensors.map((input) => ({
    ...input,
    data: async function* () {
      yield* input.data();
      onProgress?.({ written: ++written, total: tensors.length });
    },
  }));
}

function bytesIn(tensors: readonly Input[]): number {
  return tensors.reduce((sum, { dtype, shape }) => sum + tensorBytes(dtype, shape), 0);
}

/** Writes tensors in order into as many files as their size requires, and an index if there are several. */
async function writeWeights(folder: string, tensors: readonly Input[], shardBytes: number): Promise<void> {
  const shards: Input[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    if (bytesIn([tensor]) > room) {
      shards.push([]);
      room = shardBytes;
    }
    shards.at(-1)!.push(tensor);
    room -= bytesIn([tensor]);
  }
  // Hugging Face's loader requires the entry "format".
  const metadata = { format: "pt" };
  if (shards.length <= 1) return writeSafetensors(path.join(folder, "model.safetensors"), tensors, metadata);
  const five = (n: number): string => String(n).padStart(5, "0");
  const map: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const name = `model-${five(i + 1)}-of-${five(shards.length)}.safetensors`;
    await writeSafetensors(path.join(folder, name), shard, metadata);
    for (const tensor of shard) map[tensor.name] = name;
  }
  const index = json({ metadata: { total_size: bytesIn(tensors) }, weight_map: map });
  await writeTextAtomic(path.join(folder, "model.safetensors.index.json"), index);
}

async function tokenizerFiles(tokenizer: Tokenizer): Promise<[string, readonly string[]][]> {
  const { tokenizer: definition, config, chatTemplate } = toHuggingFaceTokenizer(tokenizer).toFile();
  const ownTemplate = chatTemplate !== null && config.chat_template === undefined;
  return [
    ["tokenizer.json", [...(await inTurns(jsonParts(definition))), "\n"]],
    ["tokenizer_config.json", json({ tokenizer_class: "PreTrainedTokenizerFast", ...config })],
    ...(ownTemplate ? [["chat_template.jinja", [chatTemplate]] satisfies [string, readonly string[]]] : []),
  ];
}

/** Returns the ids of the tokens that begin and end a text, by their names in configuration files. */
function tokenIds(tokenizer: Tokenizer | null): Record<string, number> {
  const begin = tokenizer?.beginningOfText ?? null;
  const end = tokenizer?.endOfText ?? null;
  return { ...(begin !== null && { bos_token_id: begin }), ...(end !== null && { eos_token_id: end }) };
}

function generationFile(defaults: GenerationDefaults, tokenizer: Tokenizer | null): [string, readonly string[]][] {
  const config = { ...tokenIds(tokenizer), ...toGenerationConfig(defaults) };
  return Object.keys(config).length === 0 ? [] : [["generation_config.json", json(config)]];
}

/** Returns a small value as the parts of a JSON file. */
function json(value: unknown): readonly string[] {
  return [`${JSON.stringify(value, null, 2)}\n`];
}

/** Returns the names in a folder, or null if it does not exist. */
async function entriesOf(folder: string): Promise<string[] | null> {
  return readdir(folder).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  });
}
