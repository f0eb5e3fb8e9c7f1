import { describe, HeedError } from "../../errors.js";
import { Module } from "../../nn/module.js";
import type { FloatTensor } from "../../tensor.js";
import { readPieces } from "../../tensor-pieces.js";
import { inPieces, joined } from "../../turns.js";
import type { FamilySaving } from "./family.js";
import { families } from "./index.js";

/** Throws ERR_ARGUMENT for a model whose weights are quantised: the formats hold the numbers they were. */
export function checkSavable(op: string, model: Module): void {
  if (model instanceof Module && model.isQuantized)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model that is not quantised, to save its weights`);
}

/** How a model is saved. Throws ERR_ARGUMENT for one of no family that can be. */
export function savingOf(op: string, model: Module): FamilySaving {
  checkSavable(op, model);
  for (const list of Object.values(families)) for (const { saving } of list) if (saving?.owns(model)) return saving;
  const given = (model as object | null)?.constructor.name ?? describe(model);
  throw new HeedError("ERR_ARGUMENT", `${op}: expected a model of a family that can be saved, got ${given}`);
}

/**
 * The numbers of a parameter, or of a tensor as large, as the file has them, in pieces: `size` of them, all unless given,
 * from the `from`-th on.
 */
export async function* savedPieces(
  saving: FamilySaving,
  model: Module,
  parameter: string,
  tensor: FloatTensor,
  from = 0,
  size = tensor.size,
): AsyncGenerator<Float32Array> {
  if (saving.values) {
    const whole = saving.values(model, parameter, await joined(readPieces(tensor), tensor.size));
    yield* inPieces(whole.subarray(from, from + size));
    return;
  }
  const part = tensor.viewAs([size], [1], from, false);
  try {
    yield* readPieces(part);
  } finally {
    part.dispose();
  }
}
