import { type GradientSlot, needsGrad, record } from "../autograd.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { formatShape, numel, sameShape } from "../shape.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import { checkDType, checkFloat, checkInteger, checkNumber, checkObject, checkRank, checkTensor } from "./check.js";
import { type CrossEntropyOptions, lossScale, passScaled } from "./cross-entropy.js";
import { rounded } from "./precision.js";
import { asInOut, checkProjection, type Layout, product, writeProjectionGradients } from "./projection.js";
import { contiguous, transposed } from "./views.js";

/** Options of `linearCrossEntropy`. */
export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Bias of the logits, [V]. */
  bias?: FloatTensor | null;
  /** Order of the weight's dimensions: [V, C] ("oi") or [C, V] ("io"). @default "oi" */
  layout?: Layout;
  /**
   * Number of rows whose logits exist at the same time. By default their logits take about half of the weight's memory,
   * and at least 4 MiB.
   */
  chunkRows?: number;
}

/** Bytes that the logits of a chunk may take even if the weight is smaller. */
const smallestChunk = 4 << 20;

/**
 * Returns the usual number of rows in a chunk. The logits take about half of the weight's memory, so that reading the
 * weight and its gradient again for each chunk costs little.
 */
function usualRows(inputs: number, outputs: number, bytes: number): number {
  return Math.max(1, Math.ceil(inputs / 2), Math.floor(smallestChunk / (outputs * bytes)));
}

/**
 * Returns `crossEntropy(linear(x, weight, { bias }), targets)` without storing all logits [..., V]: x [..., C], targets
 * i32 [...] → f32 [].
 *
 * The rows are processed in chunks. The logits of a chunk are replaced by their own gradient, which is multiplied at
 * once: dx = dlogits·Wᵀ and dW += xᵀ·dlogits. What is kept for `backward()` therefore has the sizes of x and of the
 * weight.
 *
 * Dtypes may be combined as in `linear`. Gradients of a 16-bit weight and bias are summed over chunks in f32; gradients
 * of f16 tensors are kept in f32.
 *
 * @example
 * const h = randn([2, 6, 8], { seed: 1 });
 * const weight = parameter(randn([256, 8], { seed: 2 }));
 * linearCrossEntropy(h, weight, zeros([2, 6], { dtype: "i32" })).backward();
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_RANGE or ERR_ARGUMENT for a bad option. Reading the loss rejects with
 *   ERR_RANGE if a target is outside [0, V).
 */
export function linearCrossEntropy(
  x: FloatTensor,
  weight: FloatTensor,
  targets: IntTensor,
  options: LinearCrossEntropyOptions = {},
): FloatTensor {
  const op = "linearCrossEntropy";
  checkObject(op, "options", options);
  const { bias = null, layout = "oi", chunkRows, ignoreIndex = -100, labelSmoothing = 0 } = options;
  checkFloat(op, "x", x);
  checkRank(op, "x", x, 1);
  const inputs = x.shape.at(-1)!;
  const outputs = checkProjection(op, x, inputs, weight, bias, layout);
  checkTensor(op, "targets", targets, x);
  checkDType(op, "targets", targets, "i32");
  checkInteger(op, "ignoreIndex", ignoreIndex, -(2 ** 31), 2 ** 31 - 1);
  checkNumber(op, "labelSmoothing", labelSmoothing, 0, 1);
  if (chunkRows !== undefined) checkInteger(op, "chunkRows", chunkRows, 1);
  const leading = x.shape.slice(0, -1);
  if (!sameShape(targets.shape, leading))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected targets of shape ${formatShape(leading)}, got ${formatShape(targets.shape)}`,
    );

  const { dtype, device } = x;
  const input = contiguous(x);
  const index = contiguous(targets);
  using operand = rounded(weight, dtype);
  using w = asInOut(operand, layout); // [C, V]
  using wT = transposed(w);
  const rows = numel(leading);
  const most = chunkRows ?? usualRows(inputs, outputs, dtype === "f32" ? 4 : 2);
  const chunks = Math.max(1, Math.ceil(rows / most));
  const size = Math.ceil(rows / chunks);
  const recorded = needsGrad([input, weight, bias]);
  const scale = lossScale(dtype);
  const gradientOf = (tensor: FloatTensor | null, summed: boolean): FloatTensor | null => {
    if (!recorded || !tensor?.requiresGrad) return null;
    // Sums of f16 gradients that are multiplied by a scale may exceed the largest number of f16.
    const sums = (summed && chunks > 1) || scale !== 1;
    return allocate(tensor.shape, sums ? "f32" : tensor.dtype, device, false);
  };
  const dx = gradientOf(input, false);
  const dWeight = gradientOf(weight, true);
  const dBias = gradientOf(bias, true);

  const loss: FloatTensor = allocate([], "f32", device);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const first = chunk * size;
    const count = Math.min(size, rows - first);
    const accumulate = chunk > 0;
    const part = (of: FloatTensor): FloatTensor => of.viewAs([count, inputs], [inputs, 1], first * inputs, false);
    using xs = part(input);
    // This holds the logits first and then their gradient.
    using dy: FloatTensor = allocate([count, outputs], dtype, device, false);
    product(dy, xs, w, { bias });
    ops.cross_entropy({
      loss,
      dlogits: recorded ? dy : null,
      logits: dy,
      targets: index,
      first,
      ignoreIndex,
      smoothing: labelSmoothing,
      scale,
      accumulate,
    });
    if (dx) {
      using dxs = part(dx);
      product(dxs, dy, wT);
    }
    const slot = (out: FloatTensor | null): GradientSlot | null => out && { out, accumulate };
    writeProjectionGradients(slot(dWeight), slot(dBias), xs, dy, layout);
  }
  if (recorded) {
    record(op, loss, [input, weight, bias], { dx, dWeight, dBias }, (context) => {
      const { dx, dWeight, dBias } = context.saved;
      passScaled(context as never, [dx, dWeight, dBias], scale);
    });
    for (const gradient of [dx, dWeight, dBias]) gradient?.dispose();
  }
  if (input !== x) input.dispose();
  if (index !== targets) index.dispose();
  return loss;
}
