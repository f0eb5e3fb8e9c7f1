// Reads and writes how a text becomes a vector in the files of sentence-transformers: modules.json lists the steps in
// order, and each step has a folder with its options.
import path from "node:path";
import { describe, HeedError } from "../util/errors.js";
import { exists, ifThere, inFile, readJsonFile } from "../util/files.js";
import { checkBoolean, checkInteger } from "../util/check.js";
import type { EmbeddingRecipe } from "../embed/embed-texts.js";
import { booleanOf, positiveInteger } from "./families/huggingface-config.js";
import { checkPooling, type Pooling } from "../nn/pooling.js";

type Json = Readonly<Record<string, unknown>>;

/** Kinds of pooling by their names in the files. */
const poolings: Record<string, Pooling> = {
  pooling_mode_cls_token: "cls",
  pooling_mode_mean_tokens: "mean",
  pooling_mode_max_tokens: "max",
  pooling_mode_lasttoken: "last",
};

/** Returns true if a folder is one of sentence-transformers. */
export async function isSentenceTransformer(folder: string): Promise<boolean> {
  return exists(path.join(folder, "modules.json"));
}

/**
 * Returns the recipe of a folder, or null if the folder is not one of sentence-transformers.
 *
 * @throws ERR_FORMAT if the files ask for steps that heed does not support; the message names the file.
 * @see https://www.sbert.net
 */
export async function readRecipe(folder: string): Promise<EmbeddingRecipe | null> {
  const file = path.join(folder, "modules.json");
  const modules = await ifThere(file, readJsonFile);
  if (modules === null) return null;
  const steps = await inFile(file, () => stepsOf(modules));
  const optionsFile = path.join(folder, "sentence_bert_config.json");
  const options = await ifThere(optionsFile, readJsonFile);
  const ownFile = path.join(folder, "config_sentence_transformers.json");
  const own = await ifThere(ownFile, readJsonFile);
  const configFile = path.join(folder, "config.json");
  const config = await ifThere(configFile, readJsonFile);
  const poolingFile = path.join(folder, steps.pooling, "config.json");
  const pooling = await readJsonFile(poolingFile);
  return {
    pooling: await inFile(poolingFile, () => poolingOf(pooling)),
    normalize: steps.normalize,
    ...(await inFile(optionsFile, () => optionsOf(Object(options) as Json))),
    ...(await inFile(configFile, () => matryoshkaOf(Object(config) as Json))),
    ...(await inFile(configFile, () => dimensionsOf(Object(config) as Json))),
    ...(await inFile(ownFile, () => dimensionsOf(Object(own) as Json))),
  };
}

/** Returns the number of a vector's numbers that are kept, if the files say it. */
function dimensionsOf(options: Json): Pick<EmbeddingRecipe, "dimensions"> {
  return options.truncate_dim == null ? {} : { dimensions: positiveInteger(options, "truncate_dim") };
}

/** Files of a recipe by their names, and what it adds to the model's config.json. */
export interface RecipeFiles {
  readonly files: ReadonlyMap<string, object>;
  readonly config: Json;
}

/**
 * Returns the files of a recipe for a model of this size. `folder` is the name of the folder of the pooling step.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if the recipe is invalid.
 */
export function recipeFiles(
  op: string,
  recipe: EmbeddingRecipe,
  { width, contextLength }: { width: number; contextLength: number },
  folder: string,
): RecipeFiles {
  const { pooling = "mean", normalize = false, maxLength, matryoshka, lowercase = false, dimensions } = recipe;
  checkPooling(op, pooling);
  checkBoolean(op, "recipe.normalize", normalize);
  checkBoolean(op, "recipe.lowercase", lowercase);
  if (maxLength !== undefined) checkInteger(op, "recipe.maxLength", maxLength, 1, contextLength);
  if (dimensions !== undefined) checkInteger(op, "recipe.dimensions", dimensions, 1, width);
  const several = matryoshka === true ? [] : [...(matryoshka ?? [])];
  for (const [i, one] of several.entries()) checkInteger(op, `recipe.matryoshka[${i}]`, one, 1, width);
  const steps = ["Transformer", "Pooling", ...(normalize ? ["Normalize"] : [])];
  const folders = ["", folder, "2_Normalize"];
  const modules = steps.map((kind, idx) => ({
    ...{ idx, name: String(idx), path: folders[idx], type: `sentence_transformers.models.${kind}` },
  }));
  const modes = Object.entries(poolings).map(([name, kind]) => [name, kind === pooling]);
  return {
    files: new Map<string, object>([
      ["modules.json", modules],
      [`${folder}/config.json`, { word_embedding_dimension: width, ...Object.fromEntries(modes) }],
      ["sentence_bert_config.json", { max_seq_length: maxLength ?? null, do_lower_case: lowercase }],
      ...(dimensions === undefined
        ? []
        : [["config_sentence_transformers.json", { truncate_dim: dimensions }] as const]),
    ]),
    config:
      matryoshka === true ? { is_matryoshka: true } : several.length > 0 ? { matryoshka_dimensions: several } : {},
  };
}

/** Names of a recipe's files in the folder of a model, but for the folder of the pooling step. */
export const ofRecipe = /^(modules|sentence_bert_config|config_sentence_transformers)\.json$/;

/** Names of the folders of pooling steps. */
export const poolingFolder = /^\d+_Pooling$/;

function optionsOf(options: Json): Pick<EmbeddingRecipe, "lowercase" | "maxLength"> {
  const lowercase = booleanOf(options, "do_lower_case", false);
  return options.max_seq_length == null
    ? { lowercase }
    : { lowercase, maxLength: positiveInteger(options, "max_seq_length") };
}

/** Returns the numbers of a vector's beginning that the model was trained to use, in the fields that vLLM reads as well. */
function matryoshkaOf({
  matryoshka_dimensions: numbers,
  is_matryoshka: any,
}: Json): Pick<EmbeddingRecipe, "matryoshka"> {
  if (numbers == null) return any === true ? { matryoshka: true } : {};
  const isNumber = (one: unknown): one is number => Number.isSafeInteger(one) && (one as number) > 0;
  if (Array.isArray(numbers) && numbers.every(isNumber)) return { matryoshka: numbers };
  throw new HeedError("ERR_FORMAT", `expected matryoshka_dimensions to be positive integers, got ${describe(numbers)}`);
}

/** Returns the folder of the pooling step, and whether vectors are normalised after it. */
function stepsOf(modules: unknown): { pooling: string; normalize: boolean } {
  const steps = (Array.isArray(modules) ? (modules as Json[]) : []).map((step) => ({
    kind: typeof step?.type === "string" ? step.type.slice(step.type.lastIndexOf(".") + 1) : null,
    folder: step?.path,
  }));
  const kinds = steps.map(({ kind }) => kind).join(", ");
  const pooling = steps[1]?.folder;
  if (!["Transformer, Pooling", "Transformer, Pooling, Normalize"].includes(kinds) || typeof pooling !== "string")
    throw new HeedError(
      "ERR_FORMAT",
      `expected the steps Transformer, Pooling and perhaps Normalize, got ${kinds || describe(modules)}`,
    );
  if (steps[0]!.folder !== "")
    throw new HeedError(
      "ERR_FORMAT",
      `expected the Transformer in the folder itself, got ${describe(steps[0]!.folder)}`,
    );
  if (!/^\w+$/.test(pooling))
    throw new HeedError("ERR_FORMAT", `expected the name of a folder, got ${describe(pooling)}`);
  return { pooling, normalize: steps.length === 3 };
}

function poolingOf(json: unknown): Pooling {
  const on = Object.entries(Object(json) as Json).flatMap(([name, value]) =>
    name.startsWith("pooling_mode_") && value === true ? [name] : [],
  );
  const [name] = on;
  if (on.length === 1 && Object.hasOwn(poolings, name!)) return poolings[name!]!;
  throw new HeedError(
    "ERR_FORMAT",
    `expected one of ${Object.keys(poolings).join(", ")} to be true, got ${on.join(", ") || "none"}`,
  );
}
