import { record } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { checkFloat, checkRank } from "./check.js";
import { contiguous } from "./views.js";

/**
 * Returns exp(x − max x) / Σ exp(x − max x) along the last dimension. A row that is −∞ throughout becomes zeros.
 *
 * @example
 * const p = softmax(tensor([0, 0, -Infinity])); // [0.5, 0.5, 0]
 */
export function softmax(x: FloatTensor): FloatTensor {
  checkFloat("softmax", "x", x);
  checkRank("softmax", "x", x, 1);
  const input = contiguous(x);
  const out: FloatTensor = allocate(x.shape, x.dtype, x.device);
  ops.softmax_forward({ out, inp: input });
  record("softmax", out, [input], { out }, ({ dout, gradient, saved }) => {
    const { out: dinp, accumulate } = gradient(0);
    ops.softmax_backward({ dinp, dout, out: saved.out, accumulate });
  });
  if (input !== x) input.dispose();
  return out;
}
