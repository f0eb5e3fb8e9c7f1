/**
 * Mixed precision (Micikevicius et al. 2018): parameters in f32, which the optimiser moves, beside activations in bf16 or
 * f16. Kernels read f32 parameters of norms, biases and embeddings as they are; a matrix product's weight is rounded to
 * the activations' dtype first, and the rounded copy stays with the parameter.
 */
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { allocate, type FloatTensor } from "../tensor.js";

/** Throws ERR_DTYPE unless activations of `dtype` go with parameters of `parameters`. */
export function checkRounding(op: string, parameters: FloatDType, dtype: FloatDType): void {
  if (dtype === parameters || (parameters === "f32" && (dtype === "bf16" || dtype === "f16"))) return;
  const expected = parameters === "f32" ? "f32, bf16 or f16" : parameters;
  throw new HeedError("ERR_DTYPE", `${op}: expected dtype ${expected} for parameters of ${parameters}, got ${dtype}`);
}

/** @internal `weight` in `dtype`: itself, its parameter's kept copy, or a new copy. An alias, outside of scopes and graph. */
export function rounded(weight: FloatTensor, dtype: FloatDType): FloatTensor {
  if (weight.dtype === dtype) return weight.alias();
  if (weight.rounding?.dtype === dtype) return weight.rounding.alias();
  const copy = allocate(weight.shape, dtype, weight.device, false);
  ops.copy(copy.handle, weight.handle, false);
  if (weight.node || !weight.requiresGrad) return copy;
  weight.rounding?.dispose();
  weight.rounding = copy;
  return copy.alias();
}

/** @internal To be called when kernels have changed the elements of parameters: kept copies follow, in one launch. */
export function roundAgain(parameters: readonly FloatTensor[]): void {
  const kept = parameters.filter(({ rounding }) => rounding);
  if (kept.length === 0) return;
  ops.copy_list(
    kept.map(({ rounding }) => rounding!.handle),
    kept.map(({ handle }) => handle),
  );
}
