// Tensors that a checkpoint has for the parameters of its model: the state of the optimiser, and averages.
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { ifThere } from "../util/files.js";
import { readSafetensors } from "../formats/safetensors.js";
import type { Module } from "../nn/module.js";
import { sameShape, type Shape } from "../core/shape.js";
import { setPieces } from "../core/tensor-pieces.js";
import { inPieces } from "../util/turns.js";
import { partOfParameter, peftNames } from "./peft-names.js";

/** Tensors read from a file, by name. */
export type LoadedTensors = Record<string, { shape: Shape; values: Float32Array }>;

/** Reads all tensors of a file. */
export async function readTensors(name: string): Promise<LoadedTensors> {
  const file = await readSafetensors(name);
  try {
    const loaded: [string, LoadedTensors[string]][] = [];
    for (const [tensor, { shape }] of file.tensors)
      loaded.push([tensor, { shape, values: await file.readFloats(tensor) }]);
    return Object.fromEntries(loaded);
  } finally {
    await file.close();
  }
}

/**
 * Returns tensors for parameters of adapters, which are saved in the layout of PEFT's files, in the layout of the model.
 * `parameterOf` returns the parameter to which a name belongs.
 */
export function inModelsLayout(
  tensors: LoadedTensors,
  model: Module,
  parameterOf: (name: string) => string = (name) => name,
): LoadedTensors {
  const names = peftNames("loadCheckpoint", model);
  const converted = Object.entries(tensors).map(([name, { shape, values }]) => {
    const of = partOfParameter(parameterOf(name));
    return [name, { shape, values: of ? names.fromFile(of.layer, of.part, values) : values }] as const;
  });
  return Object.fromEntries(converted);
}

/** File of a checkpoint with the moving average of the weights. */
export const averageFile = "average.safetensors";

/**
 * Overwrites the weights of a model with the moving average in the folder of a checkpoint.
 *
 * @throws ERR_IO if the checkpoint has no average; ERR_FORMAT if it does not fit the model.
 */
export async function takeAverage(model: Module, folder: string, adapted: boolean): Promise<void> {
  const file = path.join(folder, averageFile);
  const saved = await ifThere(file, readTensors);
  if (!saved)
    throw new HeedError(
      "ERR_IO",
      `${file}: expected an average of the weights, as a run with ema (heed train --ema) saves`,
    );
  const parameters = model.stateDict();
  for (const [name, { shape, values }] of Object.entries(adapted ? inModelsLayout(saved, model) : saved)) {
    const parameter = parameters[name];
    if (!parameter || !sameShape(parameter.shape, shape))
      throw new HeedError("ERR_FORMAT", `${file}: expected averages of the model's parameters, got ${name}`);
    await setPieces(parameter, inPieces(values));
    parameter.overwritten();
  }
}
