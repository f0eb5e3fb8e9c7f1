import type { Activation } from "../ops/activation.js";
import { feedForward } from "../ops/feed-forward.js";
import { packedGated } from "../ops/gated.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface FeedForwardConfig {
  width: number;
  /** Width between the two layers; 4·width unless given. */
  hidden?: number;
  /** "gelu" unless given; where gated, "silu". */
  activation?: Activation;
  /** The first layer is twice as wide, and one half, through the activation, gates the other (Shazeer 2020). */
  gated?: boolean;
  bias?: boolean;
  layout?: "oi" | "io";
  std?: number;
  /** Standard deviation of the second layer. */
  outputStd?: number;
}

/** down(activation(up(x))) + residual: fused where both are plain products. */
export function twoLayers(
  x: FloatTensor,
  { up, down }: { up: Linear; down: Linear },
  { activation, residual }: { activation: Activation; residual: FloatTensor | null },
): FloatTensor {
  if (!up.plain || !down.plain) return down.forward(up.forward(x, { activation }), { residual });
  return feedForward(x, { up, down }, { activation, layout: up.layout, residual });
}

/** Two linear layers with an activation between (Vaswani et al. 2017, §3.3). */
export class FeedForward extends Module {
  readonly c_fc: Linear;
  readonly c_proj: Linear;
  readonly activation: Activation;
  readonly gated: boolean;

  constructor(config: FeedForwardConfig, init: Initializer) {
    super();
    const { width, hidden = 4 * width, gated = false, bias = true, layout = "oi", std = 0.02 } = config;
    this.activation = config.activation ?? (gated ? "silu" : "gelu");
    this.gated = gated;
    this.c_fc = new Linear({ inputs: width, outputs: gated ? 2 * hidden : hidden, bias, std, layout }, init);
    this.c_proj = new Linear({ inputs: hidden, outputs: width, bias, std: config.outputStd ?? std, layout }, init);
  }

  /** x [..., C] → [..., C], with `residual` added if given. */
  forward(x: FloatTensor, residual: FloatTensor | null = null): FloatTensor {
    const { c_fc: up, c_proj: down, activation } = this;
    if (this.gated) return down.forward(packedGated(up.forward(x), activation), { residual });
    return twoLayers(x, { up, down }, { activation, residual });
  }
}
