import { mul } from "../ops/binary.js";
import { logProbabilities } from "../ops/sample.js";
import { reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";

/**
 * Returns −log p(target) in nats for each row: logits [..., V], targets [...] → f32 [...]. A value is NaN if and only
 * if the row has no distribution: one of its logits is NaN or Infinity, or all of them are -Infinity. Gradients do not
 * flow through it.
 *
 * A row's loss does not depend on the rows beside it, as that of `crossEntropy` does on CUDA in its last bits: the order
 * of that one's sum follows from the row's address.
 */
export function tokenLosses(logits: FloatTensor, targets: IntTensor): FloatTensor {
  return scope(() => {
    const rows = reshape(logits, [-1, logits.shape.at(-1)!]);
    return reshape(mul(logProbabilities(rows, reshape(targets, [-1, 1])), -1), targets.shape);
  });
}
