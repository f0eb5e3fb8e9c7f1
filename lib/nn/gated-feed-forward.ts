import type { Activation } from "../ops/activation.js";
import { checkInteger, checkObject } from "../ops/check.js";
import type { FloatTensor } from "../core/tensor.js";
import { type FeedForwardProjections, wholeLayer } from "./block-parts.js";
import { gatedLayers } from "./feed-forward.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import type { Observer } from "./observer.js";

/** Configuration of a `GatedFeedForward` module. */
export interface GatedFeedForwardConfig {
  /** C, the width of input and output. */
  width: number;
  /** Width between the layers. */
  feedForwardWidth: number;
  /** Activation of the gate. @default "silu" (SwiGLU) */
  activation?: Activation;
  /** True if the layers have biases. @default false */
  bias?: boolean;
  /** Standard deviation of the initial weights. @default 0.02 */
  std?: number;
  /** Standard deviation of the last layer's initial weights. @default std */
  outputStd?: number;
}

/**
 * Feed-forward with a gated linear unit, down(activation(gate(x)) · up(x)) (Shazeer 2020). Its parameters have the
 * names of Llama's files.
 *
 * @example
 * const mlp = new GatedFeedForward({ width: 8, feedForwardWidth: 24 }, new Initializer(1, device()));
 * mlp.forward(x).shape; // [2, 8]
 *
 * @see https://arxiv.org/abs/2002.05202
 */
export class GatedFeedForward extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly activation: Activation;

  constructor(config: GatedFeedForwardConfig, init: Initializer) {
    super();
    checkObject("GatedFeedForward", "config", config);
    const { width, feedForwardWidth: hidden, activation = "silu", bias = false, std = 0.02, outputStd = std } = config;
    checkInteger("GatedFeedForward", "feedForwardWidth", hidden, 1);
    this.activation = activation;
    this.gate_proj = new Linear({ inputs: width, outputs: hidden, bias, std }, init);
    this.up_proj = new Linear({ inputs: width, outputs: hidden, bias, std }, init);
    this.down_proj = new Linear({ inputs: hidden, outputs: width, bias, std: outputStd }, init);
  }

  /** Projections by role. */
  get projections(): FeedForwardProjections {
    const { gate_proj, up_proj, down_proj } = this;
    return { gate: wholeLayer(gate_proj), up: wholeLayer(up_proj), down: wholeLayer(down_proj) };
  }

  /**
   * Returns the output [..., C] for x [..., C], plus `residual` [..., C] if one is given. An observer sees the values of
   * `gatedLayers`.
   */
  forward(x: FloatTensor, residual: FloatTensor | null = null, observer: Observer | null = null): FloatTensor {
    const { gate_proj, up_proj, down_proj, activation } = this;
    return gatedLayers([gate_proj.forward(x), up_proj.forward(x)], down_proj, { activation, residual, observer });
  }
}
