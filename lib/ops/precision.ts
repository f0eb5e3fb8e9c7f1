/**
 * Mixed precision (Micikevicius et al. 2018): parameters in f32, which the optimiser moves, beside activations in bf16 or
 * f16. Kernels read f32 parameters of norms, biases and embeddings as they are; a matrix product's weight is rounded to
 * the activations' dtype first.
 */
import { isRecording } from "../autograd.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { Graph } from "../graph.js";
import { ops } from "../native.js";
import { Rounding } from "../rounding.js";
import { allocate, type FloatTensor } from "../tensor.js";

/** Throws ERR_DTYPE unless activations of `dtype` go with parameters of `parameters`. */
export function checkRounding(op: string, parameters: FloatDType, dtype: FloatDType): void {
  if (dtype === parameters || (parameters === "f32" && (dtype === "bf16" || dtype === "f16"))) return;
  const expected = parameters === "f32" ? "f32, bf16 or f16" : parameters;
  throw new HeedError("ERR_DTYPE", `${op}: expected dtype ${expected} for parameters of ${parameters}, got ${dtype}`);
}

/**
 * @internal `weight` in `dtype`: itself, or a copy. An alias, outside of scopes and graph. A copy made for inference stays
 * with its parameter, and so does one of a frozen parameter. That of a recorded pass is its graph's alone: the gradient,
 * when it is there, has taken its place.
 */
export function rounded(weight: FloatTensor, dtype: FloatDType): FloatTensor {
  if (weight.dtype === dtype) return weight.alias();
  if (weight.node || !weight.isParameter) return roundedCopy(weight, dtype);
  if (isRecording() && weight.requiresGrad) return taken(weight, dtype) ?? roundedCopy(weight, dtype);
  let rounding = Rounding.of(weight);
  if (rounding?.copy.dtype !== dtype) {
    // What is allocated within a graph may be memory that its earlier operations write to: it is computed there too.
    if (Graph.isCapturing(weight.device)) return roundedCopy(weight, dtype);
    rounding?.release();
    weight.rounding = rounding = new Rounding(weight, dtype);
  }
  if (Graph.isCapturing(weight.device)) Graph.hold(rounding);
  else rounding.renew();
  return rounding.copy.alias();
}

/** The copy that was kept for inference, which is then no longer kept; null where it is stale. */
function taken(weight: FloatTensor, dtype: FloatDType): FloatTensor | null {
  const rounding = Rounding.of(weight);
  // A graph that is still to be launched will write to it.
  if (!rounding || rounding.shared) return null;
  weight.rounding = null;
  const copy = rounding.stale || rounding.copy.dtype !== dtype ? null : rounding.copy.alias();
  rounding.release();
  return copy;
}

function roundedCopy(weight: FloatTensor, dtype: FloatDType): FloatTensor {
  const copy = allocate(weight.shape, dtype, weight.device, false);
  ops.copy({ out: copy, inp: weight });
  return copy;
}
