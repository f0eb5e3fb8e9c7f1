// The models that are served.
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import {
  type CausalDecoder,
  type FloatDType,
  GPT,
  gpt2Sizes,
  Gpt2Tokenizer,
  Llama,
  type LlamaConfig,
  load,
  saveGguf,
  type Tokenizer,
} from "heed";
import { modelFile } from "../models.js";

/** Format of the weights. With int8, activations are bf16. */
export type Format = "f32" | "bf16" | "int8";

/** A model to be served. */
export interface ServingModel {
  readonly vocabulary: number;
  /** Returns the model in f32 with the same weights every time. */
  create: (device: string, dtype: FloatDType) => Promise<CausalDecoder>;
  /** Returns the tokenizer for files that llama.cpp reads; null if there is none. */
  tokenizer: (() => Promise<Tokenizer>) | null;
  /** True if the model can be made here. */
  available: boolean;
}

// The compiled file is in build/bench/serving.
const stories = fileURLToPath(new URL("../../../../shared/models/stories260K/stories260K.bin", import.meta.url));
const gpt2Config = { vocabularySize: 50257, contextLength: 1024, ...gpt2Sizes.gpt2 };
/** Qwen 3 0.6B with GPT-2's vocabulary, so that heed's tokenizer fits it: 0.49 billion weights. */
const qwenConfig: LlamaConfig = {
  ...{ vocabularySize: 50257, contextLength: 1024, layers: 28, width: 1024, feedForwardWidth: 3072 },
  ...{ heads: 16, kvHeads: 8, headSize: 128, tied: true, qkNorm: true, eps: 1e-6, rotaryBase: 1e6 },
};
const tinyConfig = { vocabularySize: 300, contextLength: 256, layers: 2, heads: 2, width: 32 };

function gpt(config: typeof tinyConfig): ServingModel {
  return {
    vocabulary: config.vocabularySize,
    create: (device, dtype) => Promise.resolve(new GPT(config, { seed: 1, device, dtype }).eval()),
    tokenizer: config.vocabularySize === 50257 ? () => Gpt2Tokenizer.load() : null,
    available: true,
  };
}

/** The models by name. */
export const servingModels = {
  tiny: gpt(tinyConfig),
  stories260K: {
    vocabulary: 512,
    create: async (device, dtype) => (await load(stories, { kind: "causal", device, dtype })).model,
    tokenizer: async () => {
      using loaded = await load(stories, { kind: "causal", device: "cpu" });
      return loaded.tokenizer;
    },
    available: existsSync(stories),
  },
  gpt2: gpt(gpt2Config),
  /** GPT-2 with a context for a long prompt. */
  "gpt2 for 5120 tokens": gpt({ ...gpt2Config, contextLength: 5120 }),
  "qwen3 0.5B": {
    vocabulary: qwenConfig.vocabularySize,
    create: (device, dtype) => Promise.resolve(new Llama(qwenConfig, { seed: 1, device, dtype }).eval()),
    tokenizer: () => Gpt2Tokenizer.load(),
    available: true,
  },
} satisfies Record<string, ServingModel>;

export type ModelName = keyof typeof servingModels;

/** Returns a model with weights of a format. */
export async function createModel(name: ModelName, format: Format, device: string): Promise<CausalDecoder> {
  const model = await servingModels[name].create(device, format === "int8" ? "bf16" : format);
  return format === "int8" ? model.quantize({ bits: 8 }) : model;
}

/** Types of llama.cpp's files that are nearest to heed's formats. */
const ggufTypes = { f32: "F32", bf16: "BF16", int8: "Q8_0" } as const;

/** Returns the path of the file of a model for llama.cpp. */
export function llamaFile(name: ModelName, format: Format): string {
  return modelFile(`serving-${name}-${ggufTypes[format]}.gguf`.replaceAll(/[ ,]+/g, "-"));
}

/** Writes the file of a model for llama.cpp, unless it exists. */
export async function writeLlamaFile(name: ModelName, format: Format): Promise<void> {
  const file = llamaFile(name, format);
  if (existsSync(file)) return;
  const { create, tokenizer } = servingModels[name];
  if (!tokenizer) throw new Error(`there is no tokenizer for ${name}`);
  mkdirSync(path.dirname(file), { recursive: true });
  using model = await create("cpu", "f32");
  await saveGguf(file, model, { tokenizer: await tokenizer(), type: ggufTypes[format], name });
}
