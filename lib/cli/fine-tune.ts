import { adapterNames, addAdapter } from "../adapters/adapters.js";
import { freeze } from "../nn/freeze.js";
import type { PretrainedKinds } from "../pretrained/families/index.js";
import { loadModel } from "../pretrained/load-model.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { asUsage, UsageError } from "./failure.js";
import { quantizedTypes } from "./inference-options.js";
import type { RunFlags } from "./train-flags.js";

/** A trained model to fine-tune, with its tokenizer. */
export interface TunedModel {
  model: PretrainedKinds["causal"];
  tokenizer: Tokenizer;
}

/** Loads the model that `--model` names and prepares what is trained: an adapter, or the parameters that are not frozen. */
export async function loadTuned(flags: RunFlags & { model: string }, device: string): Promise<TunedModel> {
  const { model: from, seed, quantize } = flags;
  const bits = quantize && quantizedTypes[quantize];
  // Only adapters can be trained over weights in blocks of a GGUF file.
  const asStored = flags.lora === undefined ? { quantize: false as const } : {};
  const { model, tokenizer } = await loadModel(from, { device, seed, ...(bits ? { quantize: bits } : asStored) });
  try {
    if (adapterNames(model).length > 0)
      throw new UsageError(`--model ${from}: expected a model without adapters; merge it first with heed merge`);
    if (!tokenizer) throw new UsageError(`--model ${from}: expected a model with a tokenizer, got one without`);
    asUsage(() => prepare(model, flags));
    return { model, tokenizer };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

function prepare(model: TunedModel["model"], flags: RunFlags): void {
  const { lora, loraAlpha, loraDropout, loraTargets, dora, rslora, seed } = flags;
  const list = (names: string): string[] => names.split(",").map((name) => name.trim());
  if (flags.freeze !== undefined) freeze(model, list(flags.freeze));
  if (lora === undefined) return;
  addAdapter(model, {
    ...{ rank: lora, dropout: loraDropout, dora, rsLora: rslora, seed },
    ...(loraAlpha !== undefined && { alpha: loraAlpha }),
    ...(loraTargets !== undefined && { targets: list(loraTargets) }),
  });
}
