import { checkInteger, checkNumber, checkObject } from "../ops/check.js";
import { addRmsNorm, rmsNorm } from "../ops/rms-norm.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";

/** RMS norm with learned scale (Zhang & Sennrich 2019). */
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

  /** [..., C] → [..., C] */
  forward(x: FloatTensor): FloatTensor {
    return rmsNorm(x, this);
  }

  /** x + residual and its norm, in one pass. */
  add(x: FloatTensor, residual: FloatTensor): { sum: FloatTensor; out: FloatTensor } {
    return addRmsNorm(x, residual, this);
  }
}
