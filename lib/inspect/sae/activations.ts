// Activations of sparse autoencoders, and their gradients.
import { detach, noGrad } from "../../core/autograd.js";
import { add, greater, less, mul, sub } from "../../ops/binary.js";
import { topk } from "../../ops/choose.js";
import { sum } from "../../ops/reduce.js";
import { abs, relu } from "../../ops/unary.js";
import { narrow } from "../../ops/views.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";

/**
 * Returns relu(pre) where it is among the k largest of its row and 0 elsewhere (Gao et al. 2024, arXiv:2406.04093). If
 * several elements equal the k-th largest, all of them are kept.
 */
export function topKRelu(pre: FloatTensor, k: number): FloatTensor {
  return scope(() => {
    const kept = noGrad(() => {
      const least = narrow(topk(pre, k).values, -1, k - 1, 1); // [..., 1]
      return sub(1, less(pre, least));
    });
    return mul(relu(pre), kept);
  });
}

/**
 * Returns pre where it is above the threshold and 0 elsewhere (Rajamanoharan et al. 2024, arXiv:2407.14435). The gradient
 * of the threshold θ is the straight-through estimate −θ/ε · K((pre − θ)/ε), where K is 1 between −½ and ½, and ε is
 * `bandwidth`; that of `pre` is 1 above the threshold.
 *
 * @param threshold θ, [F]
 */
export function jumpRelu(pre: FloatTensor, threshold: FloatTensor, bandwidth: number): FloatTensor {
  return scope(() => {
    const { above, near } = noGrad(() => places(pre, threshold, bandwidth));
    const slope = noGrad(() => mul(mul(near, threshold), -1 / bandwidth));
    return add(mul(relu(pre), above), onlyGradient(threshold, slope));
  });
}

/**
 * Returns the number of features above their thresholds, for each row: [..., F] → [...]. The gradient of a threshold is the
 * straight-through estimate −1/ε · K((pre − θ)/ε).
 */
export function countAbove(pre: FloatTensor, threshold: FloatTensor, bandwidth: number): FloatTensor {
  return scope(() => {
    const { above, near } = noGrad(() => places(pre, threshold, bandwidth));
    const slope = noGrad(() => mul(near, -1 / bandwidth));
    return sum(add(above, onlyGradient(threshold, slope)), { axes: [-1] });
  });
}

/** Returns zeros whose gradient by x is `slope`. */
function onlyGradient(x: FloatTensor, slope: FloatTensor): FloatTensor {
  return mul(sub(x, detach(x)), slope);
}

/** Returns 1 where pre is above the threshold, and 1 where it is within half a bandwidth of it. */
function places(
  pre: FloatTensor,
  threshold: FloatTensor,
  bandwidth: number,
): { above: FloatTensor; near: FloatTensor } {
  const distance = sub(pre, threshold);
  return { above: greater(distance, 0), near: less(abs(distance), bandwidth / 2) };
}
