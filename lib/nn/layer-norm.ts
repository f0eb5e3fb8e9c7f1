import { checkInteger, checkNumber, checkObject } from "../ops/check.js";
import { addLayerNorm, layerNorm } from "../ops/layer-norm.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";

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

  /** Returns x [..., C] normalised over C. */
  forward(x: FloatTensor): FloatTensor {
    return layerNorm(x, this);
  }

  /** Returns x + residual and its norm, both [..., C], computed in one pass over memory. */
  add(x: FloatTensor, residual: FloatTensor): { sum: FloatTensor; out: FloatTensor } {
    return addLayerNorm(x, residual, this);
  }
}
