import { add, mul, sub } from "../ops/binary.js";
import { checkInteger, checkNumber, checkObject } from "../ops/check.js";
import { addLayerNorm, layerNorm } from "../ops/layer-norm.js";
import { mean } from "../ops/reduce.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";
import { scaled } from "./observed-norm.js";
import { type Observer, see } from "./observer.js";

/**
 * Layer norm over the last dimension with a learned scale and, unless `bias` is false, a learned shift (Ba et al.
 * 2016).
 *
 * @example
 * const norm = new LayerNorm({ width: 8 }, new Initializer(1, device()));
 * norm.forward(x).shape; // [2, 8]
 *
 * @see https://arxiv.org/abs/1607.06450
 */
export class LayerNorm extends Module {
  readonly weight: FloatTensor;
  readonly bias: FloatTensor | null;
  readonly eps: number;

  constructor(config: { width: number; bias?: boolean; eps?: number }, init: Initializer) {
    super();
    checkObject("LayerNorm", "config", config);
    const { width, bias = true, eps = 1e-5 } = config;
    checkInteger("LayerNorm", "width", width, 1);
    checkNumber("LayerNorm", "eps", eps, 0);
    this.eps = eps;
    this.weight = init.constant([width], 1);
    this.bias = bias ? init.constant([width], 0) : null;
  }

  /**
   * Returns x [..., C] normalised over C. An observer sees hook_scale, the standard deviation f32 [..., 1] that x is
   * divided by, and hook_normalized, the result.
   */
  forward(x: FloatTensor, observer: Observer | null = null): FloatTensor {
    const out = observer?.wants("hook_scale") ? this.#apart(x, observer) : layerNorm(x, this);
    return see(observer, "hook_normalized", out);
  }

  /** Returns the norm, computed step by step in f32. */
  #apart(x: FloatTensor, observer: Observer): FloatTensor {
    const { weight, bias, eps } = this;
    const wide = x.to("f32");
    const centred = sub(wide, mean(wide, { axes: [-1], keepDims: true }));
    const out = mul(scaled(centred, eps, observer), weight.to("f32"));
    return (bias ? add(out, bias.to("f32")) : out).to(x.dtype);
  }

  /** Returns x + residual and its norm, both [..., C], computed in one pass over memory. */
  add(x: FloatTensor, residual: FloatTensor): { sum: FloatTensor; out: FloatTensor } {
    return addLayerNorm(x, residual, this);
  }
}
