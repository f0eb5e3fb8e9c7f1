/** Code that the projections share: checks of their operands, and the gradients of their parameters. */
import type { Backward, GradientSlot } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { formatShape, numel, sameShape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkChoice, checkFloat, checkParameter, checkShapeIs, checkTensor } from "./check.js";
import { writeGradient } from "./precision.js";
import { transposed } from "./views.js";

/** Order of a weight's dimensions: [out, in] ("oi") or [in, out] ("io", as in GPT-2's files). */
export type Layout = "oi" | "io";
export const layouts: readonly Layout[] = ["oi", "io"];

/** Returns x [..., columns] as one matrix [rows, columns], in no scope and no graph. */
export function asMatrix(x: FloatTensor): FloatTensor {
  const columns = x.shape.at(-1)!;
  return x.viewAs([numel(x.shape.slice(0, -1)), columns], [columns, 1], 0, false);
}

/** Returns the weight as [in, out] for either layout, in no scope and no graph. */
export function asInOut(weight: FloatTensor, layout: Layout): FloatTensor {
  return layout === "io" ? weight.alias() : transposed(weight);
}

/**
 * Checks weight and bias of a projection from `inputs` columns, and returns its number of outputs.
 *
 * @throws ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT if they do not fit.
 */
export function checkProjection(
  op: string,
  x: FloatTensor,
  inputs: number,
  weight: FloatTensor,
  bias: FloatTensor | null,
  layout: Layout,
): number {
  checkChoice(op, "layout", layout, layouts);
  // Beside f32, any float does. A weight that a model of f32 keeps in 16 bits is rounded as one in f32.
  checkTensor(op, "weight", weight, x);
  if (x.dtype === "f32" || weight.keptHalves) checkFloat(op, "weight", weight);
  else checkParameter(op, "weight", weight, x);
  checkShapeIs(op, "weight", weight, layout === "oi" ? [-1, inputs] : [inputs, -1]);
  const outputs = weight.shape[layout === "oi" ? 0 : 1]!;
  if (bias) {
    checkParameter(op, "bias", bias, x);
    checkShapeIs(op, "bias", bias, [outputs]);
  }
  return outputs;
}

export function checkResidual(
  op: string,
  x: FloatTensor,
  residual: FloatTensor | null,
  shape: readonly number[],
): void {
  if (!residual) return;
  checkFloat(op, "residual", residual, x);
  if (!sameShape(residual.shape, shape))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected residual of shape ${formatShape(shape)}, got ${formatShape(residual.shape)}`,
    );
}

/**
 * Writes the gradients of weight (input `at`) and bias (input `at` + 1) of x·W + b, for contiguous x [..., in] and
 * dy [..., out]. `x` may be null if the weight needs no gradient.
 */
export function projectionGradients(
  { needs, gradient }: Backward<never>,
  at: number,
  x: FloatTensor | null,
  dy: FloatTensor,
  layout: Layout,
): void {
  const dBias = needs(at + 1) ? gradient(at + 1) : null;
  const write = (dWeight: GradientSlot | null): void => writeProjectionGradients(dWeight, dBias, x, dy, layout);
  if (needs(at)) writeGradient(gradient(at), dy.dtype, write);
  else write(null);
}

/**
 * Computes dW = xᵀ·dy, or its transpose dyᵀ·x, and in the same pass db = Σ dy over the rows. A gradient that is null is
 * left out; x is needed for dW only.
 */
export function writeProjectionGradients(
  dWeight: GradientSlot | null,
  dBias: GradientSlot | null,
  x: FloatTensor | null,
  dy: FloatTensor,
  layout: Layout,
): void {
  // A product whose result is empty sums nothing.
  const together = dWeight !== null && dWeight.out.size > 0;
  if (dWeight)
    ops.gemm({
      out: dWeight.out,
      a: layout === "io" ? x! : dy,
      b: layout === "io" ? dy : x!,
      transposeA: true,
      accumulate: dWeight.accumulate,
      sum: together ? dBias?.out : null,
      sumOfA: layout === "oi",
      accumulateSum: dBias?.accumulate,
    });
  if (dBias && !together) ops.bias_backward({ dbias: dBias.out, dout: dy, accumulate: dBias.accumulate });
}
