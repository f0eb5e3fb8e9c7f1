import type { Activation } from "../ops/activation.js";
import { feedForward } from "../ops/feed-forward.js";
import { packedGated } from "../ops/gated.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

/** Configuration of a `FeedForward` module. */
export interface FeedForwardConfig {
  /** C, the width of input and output. */
  width: number;
  /** Width between the two layers. @default 4·width */
  hidden?: number;
  /** Activation between the layers. @default "gelu"; "silu" if gated */
  activation?: Activation;
  /**
   * True if the first layer is twice as wide and one half of it, after the activation, multiplies the other
   * (Shazeer 2020).
   * @default false
   */
  gated?: boolean;
  /** True if both layers have biases. @default true */
  bias?: boolean;
  /** Order of the weights in memory: [out, in] ("oi") or [in, out] ("io"). @default "oi" */
  layout?: "oi" | "io";
  /** Standard deviation of the initial weights. @default 0.02 */
  std?: number;
  /** Standard deviation of the second layer's initial weights. @default std */
  outputStd?: number;
}

/**
 * Returns down(activation(up(x))) + residual. One fused operation computes it if both layers are plain products (not
 * quantised, for example).
 */
export function twoLayers(
  x: FloatTensor,
  { up, down }: { up: Linear; down: Linear },
  { activation, residual }: { activation: Activation; residual: FloatTensor | null },
): FloatTensor {
  if (!up.plain || !down.plain) return down.forward(up.forward(x, { activation }), { residual });
  return feedForward(x, { up, down }, { activation, layout: up.layout, residual });
}

/**
 * Two linear layers with an activation between them (Vaswani et al. 2017, §3.3).
 *
 * @example
 * const mlp = new FeedForward({ width: 8, hidden: 32 }, new Initializer(1, device()));
 * mlp.forward(x).shape; // [2, 8]
 * mlp.parameterCount(); // 552: 8·32 + 32 + 32·8 + 8
 *
 * @see https://arxiv.org/abs/1706.03762
 */
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

  /** Returns the output [..., C] for x [..., C], plus `residual` [..., C] if one is given. */
  forward(x: FloatTensor, residual: FloatTensor | null = null): FloatTensor {
    const { c_fc: up, c_proj: down, activation } = this;
    if (this.gated) return down.forward(packedGated(up.forward(x), activation), { residual });
    return twoLayers(x, { up, down }, { activation, residual });
  }
}
