/** Models that PyTorch wrote to test/fixtures/models and test/fixtures/activations, as folders that heed loads. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { decode, type FixtureArray } from "./fixtures.js";
import { temporaryFolder } from "./folder.js";

/** A model's configuration and weights. */
export interface FixtureWeights {
  kind: keyof PretrainedKinds;
  config: Record<string, unknown>;
  weights: Record<string, FixtureArray>;
}

/** Writes the files of a model to a folder, by default one that the test removes, and returns it. */
export async function folderOfModel({ config, weights }: FixtureWeights, folder = temporaryFolder()): Promise<string> {
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  const tensors = Object.entries(weights).map(([name, array]) => {
    return { name, dtype: "F32" as const, shape: array.shape, data: decode(array) as Float32Array };
  });
  await writeSafetensors(path.join(folder, "model.safetensors"), tensors);
  return folder;
}
