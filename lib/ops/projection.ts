/** @internal What `linear` and `feedForward` share: matrices as the product takes them, and a projection's gradients. */
import type { Backward, GradientSlot } from "../autograd.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { formatShape, numel, sameShape } from "../shape.js";
import type { FloatTensor } from "../tensor.js";
import { checkChoice, checkFloat, checkParameter, checkShapeIs } from "./check.js";
import { transposed } from "./views.js";

/** How a weight lies in memory: [out, in] ("oi") or [in, out] ("io", GPT-2's files). */
export type Layout = "oi" | "io";
export const layouts: readonly Layout[] = ["oi", "io"];

/** x [..., columns] as one matrix [rows, columns]; in no scope and no graph. */
export function asMatrix(x: FloatTensor): FloatTensor {
  const columns = x.shape.at(-1)!;
  return x.viewAs([numel(x.shape.slice(0, -1)), columns], [columns, 1], 0, false);
}

/** The weight as [in, out], whichever way it lies; in no scope and no graph. */
export function asInOut(weight: FloatTensor, layout: Layout): FloatTensor {
  return layout === "io" ? weight.alias() : transposed(weight);
}

export interface Epilogue {
  bias?: FloatTensor | null;
  residual?: FloatTensor | null;
  /** Receives the sums before the activation. */
  preact?: FloatTensor | null;
  /** Multiplies by the activation's derivative at these values instead of applying it. */
  dactPreact?: FloatTensor | null;
  activation?: number;
  accumulate?: boolean;
  /** Receives the sums of b, or of a, over what is summed over in the product. */
  sum?: { out: FloatTensor; accumulate: boolean; of: "a" | "b" } | null;
}

/** out (+)= epilogue(a · b); what lies in out's shape may have more dimensions than the matrices. */
export function product(out: FloatTensor, a: FloatTensor, b: FloatTensor, epilogue: Epilogue = {}): void {
  const { bias, residual, preact, dactPreact, activation, accumulate, sum } = epilogue;
  const views: FloatTensor[] = [];
  const matrix = (tensor: FloatTensor): FloatTensor => {
    const view = asMatrix(tensor);
    views.push(view);
    return view;
  };
  ops.gemm({
    out: matrix(out),
    sum: sum?.out,
    a,
    b,
    bias,
    residual: residual && matrix(residual),
    preact: preact && matrix(preact),
    dactPreact: dactPreact && matrix(dactPreact),
    activation,
    sumOfA: sum?.of === "a",
    accumulate,
    accumulateSum: sum?.accumulate,
  });
  for (const view of views) view.dispose();
}

/** Throws unless weight and bias are a projection of `inputs` columns; returns its number of outputs. */
export function checkProjection(
  op: string,
  x: FloatTensor,
  inputs: number,
  weight: FloatTensor,
  bias: FloatTensor | null,
  layout: Layout,
): number {
  checkChoice(op, "layout", layout, layouts);
  checkParameter(op, "weight", weight, x);
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

/** Writes the gradients of weight (input `at`) and bias (`at` + 1) of x·W + b, from the matrices x and dy. */
export function projectionGradients(
  { needs, gradient }: Backward<never>,
  at: number,
  x: FloatTensor,
  dy: FloatTensor,
  layout: Layout,
): void {
  const dBias = needs(at + 1) ? gradient(at + 1) : null;
  const dWeight = needs(at) ? gradient(at) : null;
  writeProjectionGradients(dWeight, dBias, x, dy, layout);
}

/** dW = xᵀ·dy, or its transpose dyᵀ·x, and on the way db = Σ dy over rows; those of them that are asked for. */
export function writeProjectionGradients(
  dWeight: GradientSlot | null,
  dBias: GradientSlot | null,
  x: FloatTensor,
  dy: FloatTensor,
  layout: Layout,
): void {
  // A product without elements sums nothing.
  const together = dWeight !== null && dWeight.out.size > 0;
  if (dWeight) {
    const [left, right] = layout === "io" ? [x, dy] : [dy, x];
    using leftT = transposed(left);
    const sum = together && dBias ? { ...dBias, of: layout === "io" ? ("b" as const) : ("a" as const) } : null;
    product(dWeight.out, leftT, right, { accumulate: dWeight.accumulate, sum });
  }
  if (dBias && !together) ops.bias_backward({ dbias: dBias.out, dout: dy, accumulate: dBias.accumulate });
}
