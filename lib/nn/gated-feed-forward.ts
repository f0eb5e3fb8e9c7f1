import type { Activation } from "../ops/activation.js";
import { checkInteger, checkObject } from "../ops/check.js";
import { gated } from "../ops/gated.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface GatedFeedForwardConfig {
  width: number;
  /** Width between the layers. */
  hidden: number;
  /** "silu" (SwiGLU) unless given. */
  activation?: Activation;
  /** false unless given. */
  bias?: boolean;
  std?: number;
  /** Standard deviation of the last layer. */
  outputStd?: number;
}

/** Feed-forward with a gated linear unit, down(activation(gate(x)) · up(x)) (Shazeer 2020), by Llama's names. */
export class GatedFeedForward extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly activation: Activation;

  constructor(config: GatedFeedForwardConfig, init: Initializer) {
    super();
    checkObject("GatedFeedForward", "config", config);
    const { width, hidden, activation = "silu", bias = false, std = 0.02, outputStd = std } = config;
    checkInteger("GatedFeedForward", "hidden", hidden, 1);
    this.activation = activation;
    this.gate_proj = new Linear({ inputs: width, outputs: hidden, bias, std }, init);
    this.up_proj = new Linear({ inputs: width, outputs: hidden, bias, std }, init);
    this.down_proj = new Linear({ inputs: hidden, outputs: width, bias, std: outputStd }, init);
  }

  /** x [..., C] → [..., C], with `residual` added if given. */
  forward(x: FloatTensor, residual: FloatTensor | null = null): FloatTensor {
    const hidden = gated(this.gate_proj.forward(x), this.up_proj.forward(x), this.activation); // [..., F]
    return this.down_proj.forward(hidden, { residual });
  }
}
