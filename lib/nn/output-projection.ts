import { crossEntropy } from "../ops/cross-entropy.js";
import { linear } from "../ops/linear.js";
import { linearCrossEntropy, type LinearCrossEntropyOptions } from "../ops/linear-cross-entropy.js";
import { quantizedLinear } from "../ops/quantize.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { QuantizedWeight } from "./quantized-weight.js";

/** Projection from states to logits: a linear layer or, if the weights are tied, the token embedding. */
export interface OutputProjection {
  /** Weight [V, C]. */
  readonly weight: FloatTensor;
  readonly quantized: QuantizedWeight | null;
}

/** Returns the logits [..., V] of states x [..., C]. */
export function logitsOf(
  x: FloatTensor,
  { weight, quantized }: OutputProjection,
  { bias = null }: { bias?: FloatTensor | null } = {},
): FloatTensor {
  return quantized ? quantizedLinear(x, quantized, { bias }) : linear(x, weight, { bias });
}

/**
 * Returns the cross-entropy of the logits of states x. The logits are never held in memory all together, unless the
 * weight is quantised.
 */
export function logitsLoss(
  x: FloatTensor,
  projection: OutputProjection,
  targets: IntTensor,
  options: LinearCrossEntropyOptions,
): FloatTensor {
  if (!projection.quantized) return linearCrossEntropy(x, projection.weight, targets, options);
  const { bias = null, ...rest } = options;
  return crossEntropy(logitsOf(x, projection, { bias }), targets, rest);
}
