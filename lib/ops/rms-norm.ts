import type { FloatTensor } from "../tensor.js";
import { normalise, type NormOptions } from "./norm.js";

export type RmsNormOptions = NormOptions;

/**
 * RMS norm over the last dimension (Zhang & Sennrich 2019): x/√(mean(x²) + eps) · weight + bias, x [..., C].
 */
export function rmsNorm(x: FloatTensor, options: RmsNormOptions = {}): FloatTensor {
  return normalise("rmsNorm", x, null, options, true).out;
}

/** x + residual and its RMS norm in one pass: `{ sum, out }`. */
export function addRmsNorm(
  x: FloatTensor,
  residual: FloatTensor,
  options: RmsNormOptions = {},
): { sum: FloatTensor; out: FloatTensor } {
  const { sum, out } = normalise("addRmsNorm", x, residual, options, true);
  return { sum: sum!, out };
}
