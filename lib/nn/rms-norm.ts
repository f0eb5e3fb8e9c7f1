import { mul } from "../ops/binary.js";
import { checkInteger, checkNumber, checkObject } from "../ops/check.js";
import { addRmsNorm, rmsNorm } from "../ops/rms-norm.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";
import { scaled } from "./observed-norm.js";
import type { Observer } from "./observer.js";

/**
 * RMS norm over the last dimension with a learned scale (Zhang & Sennrich 2019).
 *
 * @example
 * const norm = new RmsNorm({ width: 8, eps: 1e-6 }, new Initializer(1, device()));
 * norm.forward(x).shape; // [2, 8]
 *
 * @see https://arxiv.org/abs/1910.07467
 */
export class RmsNorm extends Module {
  readonly weight: FloatTensor;
  readonly eps: number;

  constructor(config: { width: number; eps?: number }, init: Initializer) {
    super();
    checkObject("RmsNorm", "config", config);
    const { width, eps = 1e-5 } = config;
    checkInteger("RmsNorm", "width", width, 1);
    checkNumber("RmsNorm", "eps", eps, 0);
    this.eps = eps;
    this.weight = init.constant([width], 1);
  }

  /**
   * Returns x [..., C] normalised over C. An observer sees, as in TransformerLens, hook_scale, the root mean square f32
   * [..., 1] that x is divided by, and hook_normalized, the f32 quotient before it is multiplied by the weight.
   */
  forward(x: FloatTensor, observer: Observer | null = null): FloatTensor {
    if (!observer) return rmsNorm(x, this);
    const normalized = observer.see("hook_normalized", scaled(x.to("f32"), this.eps, observer));
    return mul(normalized, this.weight.to("f32")).to(x.dtype);
  }

  /** Returns x + residual and its norm, both [..., C], computed in one pass over memory. */
  add(x: FloatTensor, residual: FloatTensor): { sum: FloatTensor; out: FloatTensor } {
    return addRmsNorm(x, residual, this);
  }
}
