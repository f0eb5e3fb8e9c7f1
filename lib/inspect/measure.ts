import { noGrad } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { checkFloat } from "../ops/check.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";

/**
 * Resolves to the one number that `body` computes.
 *
 * @throws ERR_SHAPE if it computes several.
 */
export function measure(op: string, body: () => FloatTensor): Promise<number> {
  return noGrad(() =>
    scope(() => {
      const value = body();
      checkFloat(op, "metric", value);
      if (value.size !== 1) throw new HeedError("ERR_SHAPE", `${op}: expected a metric of one element, got ${value}`);
      return { read: value.item() };
    }),
  ).read;
}
