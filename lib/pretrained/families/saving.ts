// Finds out how a model is saved, and reads its parameters in the form that the file stores.
import { adapterNames } from "../../adapters/adapters.js";
import { describe, HeedError } from "../../util/errors.js";
import { Module } from "../../nn/module.js";
import { quantizationOf } from "../../nn/quantization.js";
import type { FloatTensor } from "../../core/tensor.js";
import { readPieces } from "../../core/tensor-pieces.js";
import { inPieces, joined } from "../../util/turns.js";
import type { FamilySaving } from "./family.js";
import { families } from "./index.js";

/** Properties that a model to be saved may have. */
interface Savable {
  /** True if the model may have adapters, which are saved apart. @default false */
  adapted?: boolean;
  /** True if weights may be in heed's own codes, all in the same way. @default false */
  coded?: boolean;
}

/**
 * Checks that a model has no adapters, for which the formats have no place, and is not quantised, unless the format has
 * a place for codes: the others store the original numbers, which a quantised model no longer has.
 *
 * @throws ERR_ARGUMENT if the model is quantised or has adapters.
 */
export function checkSavable(op: string, model: Module, { adapted = false, coded = false }: Savable = {}): void {
  if (!(model instanceof Module)) return;
  if (!adapted && adapterNames(model).length > 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a model without adapters, got one with ${adapterNames(model).join(", ")}; call mergeAdapter(model), or save the adapter alone with saveAdapter()`,
    );
  if (!adapted && model.isQuantized && !(coded && quantizationOf(op, model)))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a model that is not quantised, got a quantised one; save the model from which it was made`,
    );
}

/**
 * Returns the rules by which a model is saved.
 *
 * @throws ERR_ARGUMENT if the model is quantised or belongs to no family that can be saved.
 */
export function savingOf(op: string, model: Module, options: Savable = {}): FamilySaving {
  checkSavable(op, model, options);
  for (const list of Object.values(families)) for (const { saving } of list) if (saving?.owns(model)) return saving;
  const given = (model as object | null)?.constructor.name ?? describe(model);
  throw new HeedError("ERR_ARGUMENT", `${op}: expected a model of a family that can be saved, got ${given}`);
}

/** Returns true if the adapters of a model can be saved, because its layers are those of Hugging Face's transformers. */
export function savesAdapters(model: Module): boolean {
  return Object.values(families).some((list) =>
    list.some(({ saving }) => saving?.layerInTransformers !== undefined && saving.owns(model)),
  );
}

/**
 * Yields numbers of a parameter as they are stored in the file, in pieces: `size` numbers that begin at number `from`.
 * `tensor` has the numbers, and may be another tensor of the same size, such as an average of the parameter.
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
