// Published models by the name of a folder or of a model of the hub: config.json says which kind it is.
import path from "node:path";
import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { ifThere, readJsonFile } from "../files.js";
import { readSafetensors } from "../formats/safetensors.js";
import { readShardedSafetensors } from "../formats/sharded-safetensors.js";
import type { WeightFile } from "../formats/weights.js";
import { pretrainedFolder, type PretrainedOptions } from "../hub/pretrained-folder.js";
import { GPT } from "../models/gpt.js";
import { fromHuggingFaceConfig } from "../models/gpt-config.js";
import { Llama } from "../models/llama.js";
import { fromHuggingFaceLlamaConfig } from "../models/llama-config.js";
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
  const folder = await pretrainedFolder(name, options);
  const configFile = path.join(folder, "config.json");
  const config = await readJsonFile(configFile);
  const type = (config as { model_type?: unknown } | null)?.model_type;
  const tokenizer = await ifThere(path.join(folder, "tokenizer.json"), () => HuggingFaceTokenizer.fromFolder(folder));
  await using weights = await openWeights(folder);
  let model: GPT | Llama | null = null;
  try {
    const gpt = type === "gpt2";
    model = inFile(configFile, () =>
      gpt ? new GPT(fromHuggingFaceConfig(config), options) : new Llama(fromHuggingFaceLlamaConfig(config), options),
    );
    const prefix = gpt && weights.tensors.has("transformer.wte.weight") ? "transformer." : "";
    const tied = gpt || (model as Llama).lm_head === null;
    await loadWeights(model, weights, { prefix, ignored: tied ? ["lm_head.weight"] : [] });
    model.eval();
    return { model, tokenizer, folder };
  } catch (error) {
    model?.dispose();
    throw error;
  }
}

async function openWeights(folder: string): Promise<WeightFile> {
  const whole = await ifThere(path.join(folder, "model.safetensors"), readSafetensors);
  const weights = whole ?? (await ifThere(path.join(folder, "model.safetensors.index.json"), readShardedSafetensors));
  if (weights) return weights;
  throw new HeedError("ERR_IO", `${folder}: expected model.safetensors or its index, got neither`);
}

/** Runs `body`; the errors of what does not know the file become ERR_FORMAT and name it. */
function inFile<T>(file: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    if (!(cause instanceof HeedError) || cause.code === "ERR_OOM") throw cause;
    throw new HeedError("ERR_FORMAT", `${file}: ${cause.message}`, { cause });
  }
}
