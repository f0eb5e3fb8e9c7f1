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

export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** [V] */
  bias?: FloatTensor | null;
  /** How `weight` lies in memory: [V, C] ("oi", the default) or [C, V] ("io"). */
  layout?: Layout;
  /** Of how many rows the logits exist at once; unless given, of so many that they take about half of the weight's memory. */
  chunkRows?: number;
}

/** Bytes that the logits of a chunk may always have. */
const smallestChunk = 4 << 20;

/** Chunks of about half the weight's size: going over the weight and its gradient for each of them costs little. */
function usualRows(inputs: number, outputs: number, bytes: number): number {
  return Math.max(1, Math.ceil(inputs / 2), Math.floor(smallestChunk / (outputs * bytes)));
}

/**
 * `crossEntropy(linear(x, weight, { bias }), targets)` without the logits [..., V]: x [..., C], targets [...] → [].
 *
 * The rows are gone over in chunks. A chunk's logits become their own gradient in place, and that is multiplied out at
 * once: dx = dlogits·Wᵀ and dW += xᵀ·dlogits, so that what is kept for `backward()` has the sizes of x and of the weight.
 * Dtypes are as in `linear`; gradients of a 16-bit weight and bias are summed over chunks in f32, and
 * those of f16 are kept in it.
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
    // Times a scale, what is summed up of f16 might be beyond its largest number.
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
    // The logits, and then their gradient.
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
