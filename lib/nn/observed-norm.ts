import { add, div } from "../ops/binary.js";
import { mean } from "../ops/reduce.js";
import { sqrt, square } from "../ops/unary.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Observer } from "./observer.js";

/** Returns x [..., C] divided by its root mean square over C, which the observer sees as hook_scale [..., 1]. */
export function scaled(x: FloatTensor, eps: number, observer: Observer): FloatTensor {
  const scale = sqrt(add(mean(square(x), { axes: [-1], keepDims: true }), eps));
  return div(x, observer.see("hook_scale", scale));
}
