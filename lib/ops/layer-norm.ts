import type { FloatTensor } from "../tensor.js";
import { normalise, type NormOptions } from "./norm.js";

export type LayerNormOptions = NormOptions;

/**
 * Layer norm over the last dimension (Ba et al. 2016): (x − mean)/√(var + eps) · weight + bias, x [..., C].
 */
export function layerNorm(x: FloatTensor, options: LayerNormOptions = {}): FloatTensor {
  return normalise("layerNorm", x, null, options, false).out;
}

/** x + residual and its layer norm in one pass: `{ sum, out }`. */
export function addLayerNorm(
  x: FloatTensor,
  residual: FloatTensor,
  options: LayerNormOptions = {},
): { sum: FloatTensor; out: FloatTensor } {
  const { sum, out } = normalise("addLayerNorm", x, residual, options, false);
  return { sum: sum!, out };
}
