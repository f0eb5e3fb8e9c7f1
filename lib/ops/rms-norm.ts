import type { FloatTensor } from "../core/tensor.js";
import { normalise, type NormOptions } from "./norm.js";

/** Options of `rmsNorm` and `addRmsNorm`. */
export type RmsNormOptions = NormOptions;

/**
 * Returns the RMS norm along the last dimension, x/√(mean(x²) + eps) · weight + bias: x [..., C] → [..., C].
 *
 * @example
 * const y = rmsNorm(x, { weight: ones([8]), eps: 1e-6 });
 *
 * @throws ERR_SHAPE if weight or bias is not [C]; ERR_RANGE if `eps` is negative.
 * @see Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", arXiv:1910.07467.
 */
export function rmsNorm(x: FloatTensor, options: RmsNormOptions = {}): FloatTensor {
  return normalise("rmsNorm", x, null, options, true).out;
}

/**
 * Returns `sum`, which is x + residual, and `out`, its RMS norm, computed in one pass: both [..., C].
 *
 * @example
 * const { sum: h, out } = addRmsNorm(x, ones([2, 8]));
 *
 * @throws ERR_SHAPE if residual is not of the shape of x, or weight or bias is not [C]; ERR_RANGE if `eps` is negative.
 */
export function addRmsNorm(
  x: FloatTensor,
  residual: FloatTensor,
  options: RmsNormOptions = {},
): { sum: FloatTensor; out: FloatTensor } {
  const { sum, out } = normalise("addRmsNorm", x, residual, options, true);
  return { sum: sum!, out };
}
