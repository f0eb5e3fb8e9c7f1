import { activate, type Activation } from "../ops/activation.js";
import { feedForward } from "../ops/feed-forward.js";
import { gated, packedGated } from "../ops/gated.js";
import { contiguous, narrow } from "../ops/views.js";
import type { FloatTensor } from "../core/tensor.js";
import { type FeedForwardProjections, packedLayer, wholeLayer } from "./block-parts.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { type Observer, see } from "./observer.js";

/** Configuration of a `FeedForward` module. */
export interface FeedForwardConfig {
  /** C, the width of input and output. */
  width: number;
  /** Width between the two layers. @default 4·width */
  feedForwardWidth?: number;
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

/** Options of the functions that compute feed-forward layers. */
export interface LayersOptions {
  activation: Activation;
  residual: FloatTensor | null;
  /** Observer of the layers. @default null */
  observer?: Observer | null | undefined;
}

/**
 * Returns down(activation(up(x))) + residual. One fused operation computes it if both layers are plain products (not
 * quantised, for example). An observer sees hook_pre, the values before the activation, and hook_post after it.
 */
export function twoLayers(
  x: FloatTensor,
  { up, down }: { up: Linear; down: Linear },
  { activation, residual, observer = null }: LayersOptions,
): FloatTensor {
  if (observer) {
    const pre = observer.listener("hook_pre");
    const hidden = pre ? activate(pre(up.forward(x)), activation) : up.forward(x, { activation });
    return down.forward(observer.see("hook_post", hidden), { residual });
  }
  if (!up.plain || !down.plain) return down.forward(up.forward(x, { activation }), { residual });
  return feedForward(x, { up, down }, { activation, layout: up.layout, residual });
}

/**
 * Returns down(activation(gate) · up) + residual. An observer sees the gate as hook_pre, `up` as hook_pre_linear, and
 * their product as hook_post.
 */
export function gatedLayers(
  [gate, up]: readonly [gate: FloatTensor, up: FloatTensor],
  down: Linear,
  { activation, residual, observer = null }: LayersOptions,
): FloatTensor {
  const hidden = gated(see(observer, "hook_pre", gate), see(observer, "hook_pre_linear", up), activation);
  return down.forward(see(observer, "hook_post", hidden), { residual });
}

/**
 * Two linear layers with an activation between them (Vaswani et al. 2017, §3.3).
 *
 * @example
 * const mlp = new FeedForward({ width: 8, feedForwardWidth: 32 }, new Initializer(1, device()));
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
    const {
      width,
      feedForwardWidth: hidden = 4 * width,
      gated = false,
      bias = true,
      layout = "oi",
      std = 0.02,
    } = config;
    this.activation = config.activation ?? (gated ? "silu" : "gelu");
    this.gated = gated;
    this.c_fc = new Linear({ inputs: width, outputs: gated ? 2 * hidden : hidden, bias, std, layout }, init);
    this.c_proj = new Linear({ inputs: hidden, outputs: width, bias, std: config.outputStd ?? std, layout }, init);
  }

  /** Projections by role. */
  get projections(): FeedForwardProjections {
    const { c_fc, c_proj } = this;
    const down = wholeLayer(c_proj);
    if (!this.gated) return { gate: null, up: wholeLayer(c_fc), down };
    const [gate, up] = packedLayer(c_fc, [c_proj.inputs, c_proj.inputs]);
    return { gate: gate!, up: up!, down };
  }

  /**
   * Returns the output [..., C] for x [..., C], plus `residual` [..., C] if one is given. An observer sees the values of
   * `twoLayers` or `gatedLayers`.
   */
  forward(x: FloatTensor, residual: FloatTensor | null = null, observer: Observer | null = null): FloatTensor {
    const { c_fc: up, c_proj: down, activation } = this;
    if (!this.gated) return twoLayers(x, { up, down }, { activation, residual, observer });
    const packed = up.forward(x); // [..., 2·F]
    if (!observer) return down.forward(packedGated(packed, activation), { residual });
    const hidden = packed.shape.at(-1)! / 2;
    const half = (i: 0 | 1): FloatTensor => contiguous(narrow(packed, -1, i * hidden, hidden));
    return gatedLayers([half(0), half(1)], down, { activation, residual, observer });
  }
}
