// Published models by the name of a folder or of a model of the hub: config.json says which family it is of.
import path from "node:path";
import { checkObject } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { ifThere, inFile, readJsonFile } from "../files.js";
import { readSafetensors } from "../formats/safetensors.js";
import { readShardedSafetensors } from "../formats/sharded-safetensors.js";
import type { WeightFile } from "../formats/weights.js";
import { pretrainedFolder, type PretrainedOptions } from "../hub/pretrained-folder.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Family, ModelOptions } from "./families/family.js";
import { families, type PretrainedKinds } from "./families/index.js";
import { loadWeights } from "./load-weights.js";

export interface LoadPretrainedOptions<K extends keyof PretrainedKinds = "causal">
  extends PretrainedOptions, ModelOptions {
  /** What the model is for: "causal", models that predict the next token, unless given. */
  kind?: K;
}

export interface PretrainedModel<K extends keyof PretrainedKinds = "causal"> {
  model: PretrainedKinds[K];
  /** null where the folder has no tokenizer.json. */
  tokenizer: HuggingFaceTokenizer | null;
  /** Where the files are. */
  folder: string;
  /** Tensors of the files that the model has no use for, such as the heads of others of its family. */
  ignored: readonly string[];
}

/**
 * Loads a model for inference, in Hugging Face's format: `name` is a folder, or a model of the hub ("owner/name"), which
 * is downloaded. Throws ERR_IO or ERR_FORMAT, naming the file.
 */
export async function loadPretrained<K extends keyof PretrainedKinds = "causal">(
  name: string,
  options: LoadPretrainedOptions<K> = {},
): Promise<PretrainedModel<K>> {
  checkObject("loadPretrained", "options", options);
  const kind = options.kind ?? "causal";
  if (!Object.hasOwn(families, kind))
    throw new HeedError(
      "ERR_ARGUMENT",
      `loadPretrained: expected kind ${Object.keys(families).join(", ")}, got ${describe(kind)}`,
    );
  const folder = await pretrainedFolder(name, options);
  const configFile = path.join(folder, "config.json");
  const config = await readJsonFile(configFile);
  const { family, make } = await inFile(configFile, () => {
    const family = familyOf(config, kind);
    return { family, make: family.fromConfig(config) };
  });
  const tokenizer = await ifThere(path.join(folder, "tokenizer.json"), () => HuggingFaceTokenizer.fromFolder(folder));
  await using weights = await openWeights(folder);
  const model = make(options, weights);
  try {
    const ignored = await loadWeights(model, weights, family.weights?.(model, weights));
    model.eval();
    return { model: model as PretrainedKinds[K], tokenizer, folder, ignored };
  } catch (error) {
    model.dispose();
    throw error;
  }
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
