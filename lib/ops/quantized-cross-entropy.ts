import type { GradientSlot } from "../core/autograd.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkObject } from "./check.js";
import { checkChunked, type ChunkOptions, chunkedCrossEntropy } from "./chunked-cross-entropy.js";
import { writeProjectionGradients } from "./projection.js";
import {
  checkQuantizedProduct,
  type CompressedTensors,
  multiplyQuantizedTransposed,
  quantizedProduct,
} from "./quantize.js";

/** Options of `quantizedLinearCrossEntropy`. */
export interface QuantizedCrossEntropyOptions extends ChunkOptions {
  /** Bias of the logits, [V]. @default null */
  bias?: FloatTensor | null;
}

/** Rows of a chunk: reading the codes again for each chunk then costs about a twentieth of its products. */
const usualRows = 128;

/**
 * Returns `crossEntropy(quantizedLinear(x, weight, { bias }), targets)` without storing all logits [..., V]: x [..., C],
 * targets i32 [...] → f32 []. The rows are processed in chunks, as by `linearCrossEntropy`; the weight is a constant.
 *
 * @example
 * const h = parameter(randn([2, 6, 8], { seed: 1 }));
 * const weight = quantize(randn([256, 8], { seed: 2 }));
 * quantizedLinearCrossEntropy(h, weight, zeros([2, 6], { dtype: "i32" })).backward();
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_RANGE or ERR_ARGUMENT for a bad option. Reading the loss rejects with
 *   ERR_RANGE if a target is outside [0, V).
 */
export function quantizedLinearCrossEntropy(
  x: FloatTensor,
  weight: CompressedTensors,
  targets: IntTensor,
  options: QuantizedCrossEntropyOptions = {},
): FloatTensor {
  const op = "quantizedLinearCrossEntropy";
  checkObject(op, "options", options);
  const { bias = null } = options;
  checkQuantizedProduct(op, x, weight, bias);
  checkChunked(op, x, targets, options);
  const projection = {
    outputs: weight.outputs,
    usualRows,
    weight: null,
    bias,
    logits: quantizedProduct(op, weight, bias),
    rowsBackward: (out: FloatTensor, dlogits: FloatTensor): void => multiplyQuantizedTransposed(out, dlogits, weight),
    weightBackward: (_: null | GradientSlot, dBias: GradientSlot | null, __: FloatTensor, dlogits: FloatTensor): void =>
      writeProjectionGradients(null, dBias, null, dlogits, "oi"),
  };
  return chunkedCrossEntropy(op, x, targets, projection, options);
}
