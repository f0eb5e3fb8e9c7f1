import { tensor } from "../core/creation.js";
import { checkArray, checkInteger } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { mul } from "../ops/binary.js";
import { checkFloat, checkShapeIs } from "../ops/check.js";
import { sum } from "../ops/reduce.js";
import { narrow } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";

/**
 * Returns how much larger the logits of some tokens are than those of others, at one position of each sequence, as a mean
 * over the batch: logits [B, T, V] → one f32. Gradients flow through it.
 *
 * @param answers a token for each sequence, whose logits count positively
 * @param others a token for each sequence, whose logits count negatively; by default the answers' logits count alone
 * @param position the position, which may count from the end. @default -1
 *
 * @example
 * const logits = gpt.forward(tensor([[72, 101, 108]], [1, 3], { dtype: "i32" }));
 * await logitDifference(logits, [5], [7]).item();
 *
 * @throws ERR_SHAPE if the logits are not [B, T, V] or there is not a token for each sequence; ERR_RANGE if there is no
 *   such token or position.
 */
export function logitDifference(
  logits: FloatTensor,
  answers: readonly number[],
  others: readonly number[] | null = null,
  position = -1,
): FloatTensor {
  const op = "logitDifference";
  checkFloat(op, "logits", logits);
  checkShapeIs(op, "logits", logits, [-1, -1, -1]);
  const [batch, tokens, vocabulary] = logits.shape as [number, number, number];
  checkInteger(op, "position", position, -tokens, tokens - 1);
  const weights = new Float32Array(batch * vocabulary);
  for (const [name, ids, sign] of [["answers", answers, 1] as const, ["others", others, -1] as const]) {
    if (ids === null) continue;
    checkArray(op, name, ids);
    if (ids.length !== batch)
      throw new HeedError("ERR_SHAPE", `${op}: expected ${name} for ${batch} sequences, got ${ids.length}`);
    ids.forEach((id, b) => {
      checkInteger(op, `${name}[${b}]`, id, 0, vocabulary - 1);
      weights[b * vocabulary + id]! += sign / batch;
    });
  }
  return scope(() => {
    const at = narrow(logits, 1, (position + tokens) % tokens, 1).to("f32"); // [B, 1, V]
    return sum(mul(at, tensor(weights, [batch, 1, vocabulary], { device: logits.device })));
  });
}
