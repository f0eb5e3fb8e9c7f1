import { noGrad, record } from "../core/autograd.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { div, greater, maximum, mul, sub } from "./binary.js";
import { checkFloat, checkRank } from "./check.js";
import { sum } from "./reduce.js";
import { sqrt, square } from "./unary.js";

/** Smallest length that a row is divided by, as in PyTorch's `normalize`. */
const eps = 1e-12;

/**
 * Returns x / max(‖x‖₂, 1e-12) along the last dimension, so that dot products are cosines. It is computed in f32 for
 * every dtype and rounded once.
 *
 * Rows that are shorter than 1e-12 get a gradient of 0, since the gradient of the quotient would be 10¹² times that of
 * the output.
 *
 * @example
 * const unit = l2Normalize(x);
 * const cosines = matmul(unit, transpose(unit)); // [2, 2]
 */
export function l2Normalize(x: FloatTensor): FloatTensor {
  checkFloat("l2Normalize", "x", x);
  checkRank("l2Normalize", "x", x, 1);
  return scope(() => {
    const rows = { axes: [-1], keepDims: true };
    const [norm, out] = noGrad(() => {
      const wide: FloatTensor = x.to("f32");
      const norm = sqrt(sum(square(wide), rows));
      const out: FloatTensor = div(wide, maximum(norm, eps)).to(x.dtype);
      return [norm, out];
    });
    // dx = (dy − y·Σ dy·y) / ‖x‖
    return record("l2Normalize", out, [x], { x, norm }, ({ dout, pass, saved }) => {
      scope(() => {
        const length = maximum(saved.norm, eps);
        const y = div(saved.x.to("f32"), length);
        const dy = mul(dout.to("f32"), greater(saved.norm, eps));
        const along = sum(mul(dy, y), rows);
        pass(0, div(sub(dy, mul(y, along)), length));
      });
    });
  });
}
