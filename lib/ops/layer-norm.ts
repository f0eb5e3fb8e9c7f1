import type { FloatTensor } from "../core/tensor.js";
import { normalise, type NormOptions } from "./norm.js";

/** Options of `layerNorm` and `addLayerNorm`. */
export type LayerNormOptions = NormOptions;

/**
 * Returns the layer norm along the last dimension, (x − mean)/√(var + eps) · weight + bias: x [..., C] → [..., C].
 *
 * @example
 * const y = layerNorm(x, { weight: ones([8]), bias: zeros([8]) });
 *
 * @throws ERR_SHAPE if weight or bias is not [C]; ERR_RANGE if `eps` is negative.
 * @see Ba et al. 2016, "Layer Normalization", arXiv:1607.06450.
 */
export function layerNorm(x: FloatTensor, options: LayerNormOptions = {}): FloatTensor {
  return normalise("layerNorm", x, null, options, false).out;
}

/**
 * Returns `sum`, which is x + residual, and `out`, its layer norm, computed in one pass: both [..., C].
 *
 * @example
 * const { sum: h, out } = addLayerNorm(x, ones([2, 8]));
 *
 * @throws ERR_SHAPE if residual is not of the shape of x, or weight or bias is not [C]; ERR_RANGE if `eps` is negative.
 */
export function addLayerNorm(
  x: FloatTensor,
  residual: FloatTensor,
  options: LayerNormOptions = {},
): { sum: FloatTensor; out: FloatTensor } {
  const { sum, out } = normalise("addLayerNorm", x, residual, options, false);
  return { sum: sum!, out };
}
