import { add } from "../ops/binary.js";
import { crossEntropy } from "../ops/cross-entropy.js";
import { linear } from "../ops/linear.js";
import { linearCrossEntropy, type LinearCrossEntropyOptions } from "../ops/linear-cross-entropy.js";
import { quantizedLinear } from "../ops/quantize.js";
import { quantizedLinearCrossEntropy } from "../ops/quantized-cross-entropy.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { Embedding } from "./embedding.js";
import { Linear } from "./linear.js";

/** Projection from states to logits: a linear layer or, if the weights are tied, the token embedding. */
export type OutputProjection = Linear | Embedding;

/** Returns the logits [..., V] of states x [..., C]. */
export function logitsOf(
  x: FloatTensor,
  projection: OutputProjection,
  { bias = null }: { bias?: FloatTensor | null } = {},
): FloatTensor {
  const { weight, quantized } = projection;
  if (isAdapted(projection)) {
    const logits = projection.forward(x);
    return bias ? add(logits, bias) : logits;
  }
  return quantized ? quantizedLinear(x, quantized, { bias }) : linear(x, weight, { bias });
}

/**
 * Returns the cross-entropy of the logits of states x. The logits are never held in memory all together, unless the
 * projection has an adapter.
 */
export function logitsLoss(
  x: FloatTensor,
  projection: OutputProjection,
  targets: IntTensor,
  options: LinearCrossEntropyOptions,
): FloatTensor {
  const { weight, quantized } = projection;
  if (isAdapted(projection)) {
    const { bias = null, ...rest } = options;
    return crossEntropy(logitsOf(x, projection, { bias }), targets, rest);
  }
  return quantized
    ? quantizedLinearCrossEntropy(x, quantized, targets, options)
    : linearCrossEntropy(x, weight, targets, options);
}

function isAdapted(projection: OutputProjection): projection is Linear {
  return projection instanceof Linear && !!projection.adapter?.active;
}
