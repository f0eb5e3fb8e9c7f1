import { detach, noGrad } from "../core/autograd.js";
import { add, mul, sub } from "../ops/binary.js";
import { max, mean, sum } from "../ops/reduce.js";
import { softmax } from "../ops/softmax.js";
import { exp, log } from "../ops/unary.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";

/**
 * Returns the mean over rows of KL(softmax(target) ‖ softmax(logits)), in nats: logits [N, V] of both → f32 []. Gradients
 * flow to `logits` only.
 */
export function klDivergence(target: FloatTensor, logits: FloatTensor): FloatTensor {
  return scope(() => {
    const wide = logits.to("f32");
    // Σ p·log p − Σ p·z + log Σ exp z, because p adds up to 1
    const { p, known } = noGrad(() => {
      const wanted = target.to("f32");
      const p = softmax(wanted);
      const known = sub(sum(mul(p, wanted), { axes: [-1] }), logSumExp(wanted));
      return { p, known };
    });
    const cross = sub(logSumExp(wide), sum(mul(p, wide), { axes: [-1] }));
    return mean(add(known, cross));
  });
}

/** Returns log Σ exp x along the last dimension. */
function logSumExp(x: FloatTensor): FloatTensor {
  const largest = noGrad(() => detach(max(x, { axes: [-1], keepDims: true })));
  const rest = log(sum(exp(sub(x, largest)), { axes: [-1] }));
  return add(
    rest,
    noGrad(() => sum(largest, { axes: [-1] })),
  );
}
