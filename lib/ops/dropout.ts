import { record } from "../autograd.js";
import { ops } from "../native.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { checkFloat, checkInteger, checkNumber } from "./check.js";
import { contiguous } from "./views.js";

/**
 * Zeroes elements with probability p and scales the others by 1/(1 − p) (Srivastava et al. 2014). Which ones follows
 * from the seed and the element's position (Philox), so nothing is stored for the backward pass.
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
