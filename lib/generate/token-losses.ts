import { ops } from "../native.js";
import { contiguous } from "../ops/views.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";

/**
 * Returns −log p(target) in nats for each row: logits [..., V], targets [...] → f32 [...]. A value is NaN if and only
 * if the row has no distribution: one of its logits is NaN or Infinity, or all of them are -Infinity. Gradients do not
 * flow through it.
 */
export function tokenLosses(logits: FloatTensor, targets: IntTensor): FloatTensor {
  const mean = allocate([], "f32", logits.device);
  const losses = allocate(targets.shape, "f32", logits.device);
  ops.cross_entropy({
    loss: mean,
    losses,
    logits: contiguous(logits),
    targets: contiguous(targets),
    first: 0,
    ignoreIndex: -1,
    smoothing: 0,
    scale: 1,
  });
  return losses;
}
