import { crossEntropy } from "../ops/cross-entropy.js";
import { linear } from "../ops/linear.js";
import { linearCrossEntropy, type LinearCrossEntropyOptions } from "../ops/linear-cross-entropy.js";
import { quantizedLinear } from "../ops/quantize.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { QuantizedWeight } from "./quantized-weight.js";

/** What states are projected to logits with: a layer or, where they are tied, the table of tokens. */
export interface OutputProjection {
  /** [V, C] */
  readonly weight: FloatTensor;
  readonly quantized: QuantizedWeight | null;
}

/** x [..., C] → [..., V] */
export function logitsOf(
  x: FloatTensor,
  { weight, quantized }: OutputProjection,
  { bias = null }: { bias?: FloatTensor | null } = {},
): FloatTensor {
  return quantized ? quantizedLinear(x, quantized, { bias }) : linear(x, weight, { bias });
}

/** The cross-entropy of those logits: without making all of them, unless the weight is quantised. */
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
