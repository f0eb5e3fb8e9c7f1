import { record } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { checkFloat, checkInteger, checkNumber } from "./check.js";
import { contiguous } from "./views.js";

/**
 * Sets elements to 0 with probability p and scales the others by 1/(1 − p). The seed and an element's position decide
 * whether it is dropped (Philox), so that nothing is stored for the backward pass. For p = 0 the result is `x` itself.
 *
 * @example
 * const y = dropout(x, 0.1, 42);
 *
 * @throws ERR_RANGE if `p` is not from 0 to 1, or `seed` is not an integer of at least 0.
 * @see Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15.
 */
export function dropout(x: FloatTensor, p: number, seed: number): FloatTensor {
  checkFloat("dropout", "x", x);
  checkNumber("dropout", "p", p, 0, 1);
  checkInteger("dropout", "seed", seed, 0);
  if (p === 0) return x;
  const input = contiguous(x);
  const out: FloatTensor = allocate(x.shape, x.dtype, x.device);
  ops.dropout({ out, inp: input, p, seed });
  record("dropout", out, [input], {}, ({ dout, gradient }) => {
    const { out: dinp, accumulate } = gradient(0);
    ops.dropout({ out: dinp, inp: dout, p, seed, accumulate });
  });
  if (input !== x) input.dispose();
  return out;
}
