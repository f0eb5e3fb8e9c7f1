import { checkInteger, checkNumber, checkObject } from "../ops/check.js";
import { addLayerNorm, layerNorm } from "../ops/layer-norm.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";

/** Layer norm with learned scale and shift (Ba et al. 2016). */
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

  /** [..., C] → [..., C] */
  forward(x: FloatTensor): FloatTensor {
    return layerNorm(x, this);
  }

  /** x + residual and its norm, in one pass. */
  add(x: FloatTensor, residual: FloatTensor): { sum: FloatTensor; out: FloatTensor } {
    return addLayerNorm(x, residual, this);
  }
}
