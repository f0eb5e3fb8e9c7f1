import { writeFileSync } from "node:fs";
import path from "node:path";
import { lorasOf } from "../../lib/adapters/adapters.js";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import type { Module } from "../../lib/nn/module.js";
import { decode, type FixtureArray } from "../support/fixtures.js";
import { temporaryFolder } from "../support/folder.js";

/** Fills B of an adapter, so that it changes the model. */
export function shakeAdapter(model: Module, name = "default"): void {
  let seed = 1;
  for (const { lora } of lorasOf(model, name).values())
    lora.lora_B.set(new Float32Array(lora.lora_B.size).map(() => Math.sin(seed++) / 4));
}

/** A tiny model of test/fixtures/models, with a batch. */
export interface FixtureModel {
  config: { num_attention_heads: number };
  weights: Record<string, FixtureArray>;
  inputs: Record<"ids" | "keyLengths", FixtureArray>;
  targets: FixtureArray;
}

/** An adapter that test/fixtures/adapters.py trained. */
export interface FixtureAdapter {
  options: { rank: number; alpha: number; dora: boolean; rsLora: boolean };
  targets: string[];
  files: Record<string, FixtureArray>;
  logits: FixtureArray;
  losses: FixtureArray;
}

async function writeTensors(file: string, tensors: Record<string, FixtureArray>): Promise<void> {
  await writeSafetensors(
    file,
    Object.entries(tensors).map(([name, array]) => {
      return { name, dtype: "F32" as const, shape: array.shape, data: decode(array) as Float32Array };
    }),
  );
}

/** Writes the files of a model and returns its folder. */
export async function modelFolder({ config, weights }: FixtureModel): Promise<string> {
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  await writeTensors(path.join(folder, "model.safetensors"), weights);
  return folder;
}

/** Writes the files of an adapter, as PEFT does, and returns their folder. */
export async function adapterFolder({ options, targets, files }: FixtureAdapter, base: string): Promise<string> {
  const folder = temporaryFolder();
  const config = {
    peft_type: "LORA",
    base_model_name_or_path: base,
    r: options.rank,
    lora_alpha: options.alpha,
    lora_dropout: 0.0,
    use_dora: options.dora,
    use_rslora: options.rsLora,
    target_modules: targets,
    bias: "none",
    rank_pattern: {},
    modules_to_save: null,
  };
  writeFileSync(path.join(folder, "adapter_config.json"), JSON.stringify(config));
  await writeTensors(path.join(folder, "adapter_model.safetensors"), files);
  return folder;
}
