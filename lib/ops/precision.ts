/**
 * Mixed precision (Micikevicius et al. 2018): the optimiser updates parameters in f32, while activations are bf16 or
 * f16. Kernels read f32 parameters of norms, biases and embeddings directly; the weight of a matrix product is rounded to
 * the dtype of the activations.
 *
 * The opposite serves inference: activations in f32 beside a weight that is kept in the 16 bits of its file. Products
 * read such a weight as it is, because its numbers are numbers in f32 too.
 */
import { type GradientSlot, isRecording } from "../core/autograd.js";
import type { FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { Graph } from "../core/graph.js";
import { ops } from "../core/native.js";
import { Rounding } from "../core/rounding.js";
import { allocate, type FloatTensor } from "../core/tensor.js";

/**
 * Checks that activations of `dtype` can be combined with parameters of dtype `parameters`.
 *
 * @throws ERR_DTYPE if they cannot.
 */
export function checkRounding(op: string, parameters: FloatDType, dtype: FloatDType): void {
  if (dtype === parameters || (parameters === "f32" && (dtype === "bf16" || dtype === "f16"))) return;
  const expected = parameters === "f32" ? "f32, bf16 or f16" : parameters;
  throw new HeedError("ERR_DTYPE", `${op}: expected dtype ${expected} for parameters of ${parameters}, got ${dtype}`);
}

/**
 * @internal Returns `weight` for products by activations of `dtype`: an alias of itself if it has that dtype or `dtype` is
 * f32, or else of a copy that is rounded to `dtype`. The alias is outside every scope and graph. A copy that is made for
 * inference, or of a frozen parameter, stays with its parameter. A copy for a recorded pass belongs to its graph alone,
 * because the parameter's gradient later takes its memory.
 */
export function rounded(weight: FloatTensor, dtype: FloatDType): FloatTensor {
  if (weight.dtype === dtype || dtype === "f32") return weight.alias();
  if (weight.node || !weight.isParameter) return roundedCopy(weight, dtype);
  if (isRecording() && weight.requiresGrad) return taken(weight, dtype) ?? roundedCopy(weight, dtype);
  let rounding = Rounding.of(weight);
  if (rounding?.copy.dtype !== dtype) {
    // Memory that is allocated within a graph may be memory that earlier operations of the graph write to. The copy
    // must therefore be computed within the graph too.
    if (Graph.isCapturing(weight.device)) return roundedCopy(weight, dtype);
    rounding?.release();
    weight.rounding = rounding = new Rounding(weight, dtype);
  }
  if (Graph.isCapturing(weight.device)) Graph.hold(rounding);
  else rounding.renew();
  return rounding.copy.alias();
}

/**
 * @internal Returns `weight` as the second operand of products by activations of `dtype`: `rounded(weight, dtype)`, or an
 * alias of a trained weight if the product itself rounds it as it reads it, so that no copy lives from the forward pass to
 * the backward pass. On the CPU such a product takes no longer. On CUDA it would round the whole weight each time. A graph
 * that saves the alias refuses its backward pass once the weight has been overwritten, as it does in f32.
 */
export function multiplier(weight: FloatTensor, dtype: FloatDType): FloatTensor {
  const trained = isRecording() && weight.requiresGrad && weight.isParameter && !weight.node;
  if (weight.dtype !== "f32" || !trained || weight.device.kind !== "cpu") return rounded(weight, dtype);
  return taken(weight, dtype) ?? weight.alias();
}

/**
 * @internal Calls `write` with a slot for a gradient that is computed from one of `dtype`: the slot itself, or one in f32
 * if kernels cannot write to the slot's dtype, whose numbers are then rounded to it.
 */
export function writeGradient(slot: GradientSlot, dtype: FloatDType, write: (slot: GradientSlot) => void): void {
  const { out, accumulate } = slot;
  if (out.dtype === "f32" || out.dtype === dtype) {
    write(slot);
    return;
  }
  using wide: FloatTensor = allocate(out.shape, "f32", out.device, false);
  write({ out: wide, accumulate: false });
  ops.copy({ out, inp: wide, accumulate });
}

/**
 * Takes the copy that was kept for inference away from its parameter and returns it; null if it is stale or still used.
 */
function taken(weight: FloatTensor, dtype: FloatDType): FloatTensor | null {
  const rounding = Rounding.of(weight);
  // A recorded graph will write to the copy when it is launched.
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
