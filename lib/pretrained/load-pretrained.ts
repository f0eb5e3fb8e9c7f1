// Published models by the name of a folder or of a model of the hub: config.json says which kind it is.
import path from "node:path";
import { checkObject } from "../check.js";
import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { describe, HeedError } from "../errors.js";
import { ifThere, inFile, readJsonFile } from "../files.js";
import { readSafetensors } from "../formats/safetensors.js";
import { readShardedSafetensors } from "../formats/sharded-safetensors.js";
import type { WeightFile } from "../formats/weights.js";
import { pretrainedFolder, type PretrainedOptions } from "../hub/pretrained-folder.js";
import { GPT } from "../models/gpt.js";
import { checkGptConfig, fromHuggingFaceConfig, gptTypes } from "../models/gpt-config.js";
import { Llama } from "../models/llama.js";
import { checkLlamaConfig, fromHuggingFaceLlamaConfig, llamaTypes } from "../models/llama-config.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { loadWeights } from "./load-weights.js";

export interface LoadPretrainedOptions extends PretrainedOptions {
  device?: Device | string;
  /** What the parameters are rounded to; f32 unless given. */
  dtype?: FloatDType;
}

export interface PretrainedModel {
  model: GPT | Llama;
  /** null where the folder has no tokenizer.json. */
  tokenizer: HuggingFaceTokenizer | null;
  /** Where the files are. */
  folder: string;
}

/**
 * Loads a GPT-2, Llama, Mistral, Qwen 2 or Qwen 3 for inference, in Hugging Face's format: `name` is a folder, or a model
 * of the hub ("owner/name"), which is downloaded. Throws ERR_IO or ERR_FORMAT, naming the file.
 */
export async function loadPretrained(name: string, options: LoadPretrainedOptions = {}): Promise<PretrainedModel> {
  checkObject("loadPretrained", "options", options);
  const folder = await pretrainedFolder(name, options);
  const configFile = path.join(folder, "config.json");
  const config = await readJsonFile(configFile);
  const make = await inFile(configFile, () => modelOf(config));
  const tokenizer = await ifThere(path.join(folder, "tokenizer.json"), () => HuggingFaceTokenizer.fromFolder(folder));
  await using weights = await openWeights(folder);
  const model = make(options);
  try {
    const prefix = model instanceof GPT && weights.tensors.has("transformer.wte.weight") ? "transformer." : "";
    const tied = model instanceof GPT || model.lm_head === null;
    await loadWeights(model, weights, { prefix, ignored: tied ? ["lm_head.weight"] : [] });
  } catch (error) {
    model.dispose();
    throw error;
  }
  model.eval();
  return { model, tokenizer, folder };
}

/** What makes the model that a config.json describes, which is checked now. */
function modelOf(json: unknown): (options: LoadPretrainedOptions) => GPT | Llama {
  const type = (json as { model_type?: unknown } | null)?.model_type;
  if (gptTypes.includes(type)) {
    const config = checkGptConfig(fromHuggingFaceConfig(json));
    return (options) => new GPT(config, options);
  }
  if (llamaTypes.includes(type)) {
    const config = checkLlamaConfig(fromHuggingFaceLlamaConfig(json));
    return (options) => new Llama(config, options);
  }
  const types = [...gptTypes, ...llamaTypes].join(", ");
  throw new HeedError("ERR_FORMAT", `expected "model_type" ${types}, got ${describe(type)}`);
}

async function openWeights(folder: string): Promise<WeightFile> {
  const whole = await ifThere(path.join(folder, "model.safetensors"), readSafetensors);
  const weights = whole ?? (await ifThere(path.join(folder, "model.safetensors.index.json"), readShardedSafetensors));
  if (weights) return weights;
  throw new HeedError("ERR_IO", `${folder}: expected model.safetensors or its index, got neither`);
}
