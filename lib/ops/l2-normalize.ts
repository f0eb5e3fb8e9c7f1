import type { FloatTensor } from "../tensor.js";
import { scope } from "../scope.js";
import { div, maximum } from "./binary.js";
import { checkFloat, checkRank } from "./check.js";
import { sum } from "./reduce.js";
import { sqrt, square } from "./unary.js";

/** x / ‖x‖₂ over the last dimension, so that dot products are cosines; lengths below 1e-12 count as that. */
export function l2Normalize(x: FloatTensor): FloatTensor {
  checkFloat("l2Normalize", "x", x);
  checkRank("l2Normalize", "x", x, 1);
  return scope(() => {
    const norm = sqrt(maximum(sum(square(x), { axes: [-1], keepDims: true }), 1e-24));
    return div(x, norm);
  });
}
