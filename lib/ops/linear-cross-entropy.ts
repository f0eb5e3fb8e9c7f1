import type { GradientSlot } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { numel } from "../core/shape.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkFloat, checkObject, checkRank } from "./check.js";
import { checkChunked, chunkedCrossEntropy } from "./chunked-cross-entropy.js";
import type { CrossEntropyOptions } from "./cross-entropy.js";
import { multiplier, rounded } from "./precision.js";
import { checkProjection, type Layout, writeProjectionGradients } from "./projection.js";

/** Options of `linearCrossEntropy`. */
export interface LinearCrossEntropyOptions extends CrossEntropyOptions {
  /** Bias of the logits, [V]. */
  bias?: FloatTensor | null;
  /** Order of the weight's dimensions: [V, C] ("oi") or [C, V] ("io"). @default "oi" */
  layout?: Layout;
  /**
   * Number of rows whose logits exist at the same time. By default their logits take at most about three quarters
   * of the weight's memory, or 4 MiB if that is more.
   */
  chunkRows?: number;
}

/** Bytes that the logits of a chunk may take even if the weight is smaller. */
const smallestChunk = 4 << 20;

/**
 * Returns the usual number of rows in a chunk. The logits take about three quarters of the weight's memory, so that
 * reading the weight and its gradient again for each chunk costs little.
 */
function usualRows(inputs: number, outputs: number, bytes: number): number {
  return Math.max(1, Math.ceil((inputs * 3) / 4), Math.floor(smallestChunk / (outputs * bytes)));
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
  const { bias = null, layout = "oi" } = options;
  checkFloat(op, "x", x);
  checkRank(op, "x", x, 1);
  const inputs = x.shape.at(-1)!;
  const outputs = checkProjection(op, x, inputs, weight, bias, layout);
  checkChunked(op, x, targets, options);
  const usual = usualRows(inputs, outputs, x.dtype === "f32" ? 4 : 2);
  // Each chunk reads the weight twice. For many chunks, rounding it once takes less time.
  const rounds = numel(targets.shape) > 2 * (options.chunkRows ?? usual) ? rounded : multiplier;
  using operand = rounds(weight, x.dtype);
  const transposeB = layout === "oi";
  const projection = {
    outputs,
    usualRows: usual,
    weight,
    bias,
    logits: (out: FloatTensor, rows: FloatTensor): void => ops.gemm({ out, a: rows, b: operand, transposeB, bias }),
    rowsBackward: (out: FloatTensor, dlogits: FloatTensor): void =>
      ops.gemm({ out, a: dlogits, b: operand, transposeB: !transposeB }),
    weightBackward: (
      dWeight: GradientSlot | null,
      dBias: GradientSlot | null,
      rows: FloatTensor,
      dlogits: FloatTensor,
    ): void => writeProjectionGradients(dWeight, dBias, rows, dlogits, layout),
  };
  return chunkedCrossEntropy(op, x, targets, projection, options);
}
