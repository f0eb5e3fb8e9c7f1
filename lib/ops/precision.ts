/**
 * Mixed precision (Micikevicius et al. 2018): parameters in f32, which the optimiser moves, beside activations in bf16 or
 * f16. Kernels read f32 parameters of norms, biases and embeddings as they are; a matrix product's weight is rounded to
 * the activations' dtype first, and the rounded copy stays with the parameter until that changes.
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
  const { rounding, version } = weight;
  if (rounding?.tensor.dtype === dtype) {
    if (rounding.version !== version) ops.copy(rounding.tensor.handle, weight.handle, false);
    rounding.version = version;
    return rounding.tensor.alias();
  }
  const copy = allocate(weight.shape, dtype, weight.device, false);
  ops.copy(copy.handle, weight.handle, false);
  if (weight.node || !weight.requiresGrad) return copy;
  rounding?.tensor.dispose();
  weight.rounding = { tensor: copy, version };
  return copy.alias();
}

/** @internal To be called when the elements of parameters have changed: their kept copies follow, in one launch. */
export function parametersChanged(parameters: readonly FloatTensor[]): void {
  const stale: FloatTensor[] = [];
  for (const parameter of parameters) {
    parameter.version++;
    if (!parameter.rounding) continue;
    parameter.rounding.version = parameter.version;
    stale.push(parameter);
  }
  if (stale.length === 0) return;
  ops.copy_list(
    stale.map(({ rounding }) => rounding!.tensor.handle),
    stale.map(({ handle }) => handle),
  );
}
