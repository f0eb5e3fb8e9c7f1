// Loads a model from a folder in Hugging Face's format: config.json names the model's family, and model.safetensors,
// which may be split into shards, has the weights.
import path from "node:path";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { ifThere, inFile, readJsonFile } from "../util/files.js";
import { readSafetensors } from "../formats/safetensors.js";
import { readShardedSafetensors } from "../formats/sharded-safetensors.js";
import type { WeightFile } from "../formats/weights.js";
import type { ModelOptions } from "../models/model.js";
import type { Module } from "../nn/module.js";
import { CodeFile, type Quantization, readQuantization } from "./code-file.js";
import type { Blueprint, Family } from "./families/family.js";
import { families, type PretrainedKinds } from "./families/index.js";
import { warnOfUnknown } from "./families/known-entries.js";
import { isSentenceTransformer } from "./sentence-transformers.js";
import { checkSizes, loadFrom } from "./load-weights.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";
import { type StoredDTypeOptions, withStoredDtype } from "./stored-dtype.js";

/** A model and the tensors of its files that it does not use. */
export interface FolderModel<K extends keyof PretrainedKinds> {
  model: PretrainedKinds[K];
  /** Names of the tensors that the model does not use. */
  ignored: readonly string[];
}

/**
 * Loads the model in a folder for inference.
 *
 * @throws ERR_IO or ERR_FORMAT if a file is missing, malformed or of another kind of model; the message names it.
 */
export async function loadFolder<K extends keyof PretrainedKinds>(
  folder: string,
  kind: K,
  options: ModelOptions & LoadQuantizedOptions & StoredDTypeOptions,
): Promise<FolderModel<K>> {
  const quantize = quantizeOptionsOf("loadFolder", options);
  const { family, blueprint, quantization } = await readBlueprint(folder, kind);
  await using weights = await openWeights(folder, quantization);
  checkSizes(weights, blueprint.sizes(weights));
  const made = withStoredDtype(options, weights);
  const make = (): Module => blueprint.make(made, weights);
  const { model, ignored } = await loadFrom(weights, make, (model) => ({
    ...family.weights?.(model, weights),
    quantize,
    activations: options.activations,
    keepStored: options.quantize !== false,
    keepHalves: options.storedDtype ?? false,
  }));
  return { model: model as PretrainedKinds[K], ignored };
}

/**
 * Reads the config.json of a folder and returns the family of the model, a way to make it, and how its weights are
 * quantised, or null if they are not.
 *
 * @throws ERR_IO or ERR_FORMAT if config.json cannot be read or describes another kind of model; the message names it.
 */
export async function readBlueprint(
  folder: string,
  kind: keyof PretrainedKinds,
): Promise<{ family: Family; blueprint: Blueprint; quantization: Quantization | null }> {
  const configFile = path.join(folder, "config.json");
  const config = await readJsonFile(configFile);
  return inFile(configFile, () => {
    const family = familyOf(config, kind);
    const blueprint = family.fromConfig(config);
    warnOfUnknown(configFile, config);
    return { family, blueprint, quantization: readQuantization(config) };
  });
}

/**
 * Kinds of models that `load` supports. A model type is looked up in this order, because it may belong to several
 * kinds.
 */
export const modelKinds = ["causal", "encoder", "classifier", "encoder-decoder"] as const;

/**
 * Returns the kinds as which the model in a folder can be loaded, according to its config.json. The first one is the
 * kind for which the model was made.
 *
 * @throws ERR_IO or ERR_FORMAT if config.json cannot be read or has an unknown model type; the message names it.
 */
export async function kindsOfFolder(folder: string): Promise<readonly (typeof modelKinds)[number][]> {
  const configFile = path.join(folder, "config.json");
  const { model_type: type, architectures } = Object(await readJsonFile(configFile)) as Record<string, unknown>;
  const typesOf = (kind: keyof PretrainedKinds): readonly unknown[] => families[kind].flatMap(({ types }) => types);
  const kinds = modelKinds.filter((candidate) => typesOf(candidate).includes(type));
  if (kinds.length === 0) {
    const types = oneOf([...new Set(modelKinds.flatMap(typesOf))]);
    throw new HeedError("ERR_FORMAT", `${configFile}: expected "model_type" to be ${types}, got ${describe(type)}`);
  }
  // sentence-transformers makes vectors with decoders too.
  if (kinds[0] === "causal") return (await isSentenceTransformer(folder)) ? ["encoder", "causal"] : kinds;
  if (!kinds.includes("classifier") || !Array.isArray(architectures)) return kinds;
  // Only a folder whose model has the head can be loaded as a classifier; without its head, it is an encoder.
  return String(architectures[0]).endsWith("ForSequenceClassification") ? kinds.toReversed() : ["encoder"];
}

/**
 * Returns the family of a config.json.
 *
 * @throws ERR_FORMAT if no family of that kind has its model type.
 */
function familyOf(json: unknown, kind: keyof PretrainedKinds): Family {
  const type = (json as { model_type?: unknown } | null)?.model_type;
  const ofType = (family: Family): boolean => (family.types as readonly unknown[]).includes(type);
  const found = families[kind].find(ofType);
  if (found) return found;
  const other = Object.entries(families).find(([, list]) => list.some(ofType))?.[0];
  const types = oneOf(families[kind].flatMap((family) => family.types));
  const advice = other ? `, a model of kind "${other}"` : "";
  throw new HeedError("ERR_FORMAT", `expected "model_type" to be ${types}, got ${describe(type)}${advice}`);
}

async function openWeights(folder: string, quantization: Quantization | null): Promise<WeightFile> {
  const whole = await ifThere(path.join(folder, "model.safetensors"), readSafetensors);
  const weights = whole ?? (await ifThere(path.join(folder, "model.safetensors.index.json"), readShardedSafetensors));
  if (weights) return quantization ? CodeFile.of(weights, quantization) : weights;
  throw new HeedError("ERR_IO", `${folder}: expected model.safetensors or its index, got neither`);
}
