// A model out of a folder in Hugging Face's format: config.json says which family it is of, model.safetensors (whole or
// in shards) has its weights.
import path from "node:path";
import { describe, HeedError } from "../errors.js";
import { ifThere, inFile, readJsonFile } from "../files.js";
import { readSafetensors } from "../formats/safetensors.js";
import { readShardedSafetensors } from "../formats/sharded-safetensors.js";
import type { WeightFile } from "../formats/weights.js";
import type { ModelOptions } from "../models/model.js";
import type { Module } from "../nn/module.js";
import type { Blueprint, Family } from "./families/family.js";
import { families, type PretrainedKinds } from "./families/index.js";
import { checkSizes, loadFrom } from "./load-weights.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";

export interface FolderModel<K extends keyof PretrainedKinds> {
  model: PretrainedKinds[K];
  /** Tensors of the files that the model has no use for. */
  ignored: readonly string[];
}

/** The folder's model, for inference. Throws ERR_IO or ERR_FORMAT, naming the file. */
export async function loadFolder<K extends keyof PretrainedKinds>(
  folder: string,
  kind: K,
  options: ModelOptions & LoadQuantizedOptions,
): Promise<FolderModel<K>> {
  const quantize = quantizeOptionsOf("loadFolder", options);
  const { family, blueprint } = await readBlueprint(folder, kind);
  await using weights = await openWeights(folder);
  checkSizes(weights, blueprint.sizes(weights));
  const make = (): Module => blueprint.make(options, weights);
  const { model, ignored } = await loadFrom(weights, make, (model) => ({
    ...family.weights?.(model, weights),
    quantize,
  }));
  return { model: model as PretrainedKinds[K], ignored };
}

/** What the folder's config.json says. Throws ERR_IO or ERR_FORMAT, naming it, unless it is of a model of that kind. */
export async function readBlueprint(
  folder: string,
  kind: keyof PretrainedKinds,
): Promise<{ family: Family; blueprint: Blueprint }> {
  const configFile = path.join(folder, "config.json");
  const config = await readJsonFile(configFile);
  return inFile(configFile, () => {
    const family = familyOf(config, kind);
    return { family, blueprint: family.fromConfig(config) };
  });
}

/** The kinds that `load` knows, in the order in which a type is looked up: types may be of several. */
export const modelKinds = ["causal", "encoder", "encoder-decoder"] as const;

/** The kind of the model in a folder, by its config.json. Throws ERR_IO or ERR_FORMAT, naming it. */
export async function kindOfFolder(folder: string): Promise<(typeof modelKinds)[number]> {
  const configFile = path.join(folder, "config.json");
  const type = (Object(await readJsonFile(configFile)) as { model_type?: unknown }).model_type;
  const typesOf = (kind: keyof PretrainedKinds): readonly unknown[] => families[kind].flatMap(({ types }) => types);
  const kind = modelKinds.find((candidate) => typesOf(candidate).includes(type));
  if (kind) return kind;
  const types = modelKinds.flatMap(typesOf).join(", ");
  throw new HeedError("ERR_FORMAT", `${configFile}: expected "model_type" ${types}, got ${describe(type)}`);
}

/** The family that a config.json is of. Throws ERR_FORMAT unless it is of that kind. */
function familyOf(json: unknown, kind: keyof PretrainedKinds): Family {
  const type = (json as { model_type?: unknown } | null)?.model_type;
  const ofType = (family: Family): boolean => (family.types as readonly unknown[]).includes(type);
  const found = families[kind].find(ofType);
  if (found) return found;
  const other = Object.entries(families).find(([, list]) => list.some(ofType))?.[0];
  const types = families[kind].flatMap((family) => family.types).join(", ");
  const advice = other ? `, a model of kind "${other}"` : "";
  throw new HeedError("ERR_FORMAT", `expected "model_type" ${types}, got ${describe(type)}${advice}`);
}

async function openWeights(folder: string): Promise<WeightFile> {
  const whole = await ifThere(path.join(folder, "model.safetensors"), readSafetensors);
  const weights = whole ?? (await ifThere(path.join(folder, "model.safetensors.index.json"), readShardedSafetensors));
  if (weights) return weights;
  throw new HeedError("ERR_IO", `${folder}: expected model.safetensors or its index, got neither`);
}
