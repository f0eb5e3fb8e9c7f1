import { checkInteger, checkObject } from "../ops/check.js";
import { linear, type LinearOptions } from "../ops/linear.js";
import { quantizedLinear } from "../ops/quantize.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";
import { WeightLayer } from "./weight-layer.js";

/** Configuration of a `Linear` layer. */
export interface LinearConfig {
  /** Width of the input. */
  inputs: number;
  /** Width of the output. */
  outputs: number;
  /** True if the layer has a bias. @default true */
  bias?: boolean;
  /** Standard deviation of the initial weights. @default 0.02 (GPT-2's) */
  std?: number;
  /** Order of the weight in memory: [out, in] ("oi") or [in, out] ("io", as in GPT-2's files). @default "oi" */
  layout?: "oi" | "io";
}

/** Options of a linear layer's `forward`. */
export type LinearForwardOptions = Pick<LinearOptions, "activation" | "residual">;

/** Trained change of a linear layer beside its own weight, such as a LoRA. */
export abstract class LinearAdapter extends Module {
  /** Returns true if the change takes part in the layer's result. */
  abstract get active(): boolean;

  /** Returns activation(changed product, with bias) + residual: x [..., in] → [..., out]. */
  abstract forward(x: FloatTensor, layer: Linear, options: LinearForwardOptions): FloatTensor;
}

/**
 * Linear layer x·W + b, optionally with an activation and a residual fused in. Every projection of a model goes through
 * this class, so that it alone knows about quantised weights and adapters.
 *
 * @example
 * const up = new Linear({ inputs: 8, outputs: 32 }, new Initializer(1, device()));
 * up.forward(x, { activation: "gelu" }).shape; // [2, 32]
 */
export class Linear extends WeightLayer {
  readonly weight: FloatTensor;
  readonly bias: FloatTensor | null;
  readonly layout: "oi" | "io";
  /** Adapters of the layer; null if it has none. */
  adapter: LinearAdapter | null = null;

  constructor(config: LinearConfig, init: Initializer) {
    super();
    checkObject("Linear", "config", config);
    const { inputs, outputs, bias = true, std = 0.02, layout = "oi" } = config;
    checkInteger("Linear", "inputs", inputs, 1);
    checkInteger("Linear", "outputs", outputs, 1);
    this.layout = layout;
    this.weight = init.normal(layout === "oi" ? [outputs, inputs] : [inputs, outputs], std);
    this.bias = bias ? init.constant([outputs], 0) : null;
  }

  /** True if the layer is a product with `weight` and nothing else, so that a fused operation may compute it. */
  get plain(): boolean {
    return this.quantized === null && !this.adapter?.active;
  }

  /** Number of inputs. */
  get inputs(): number {
    return this.quantized?.inputs ?? this.weight.shape[this.layout === "oi" ? 1 : 0]!;
  }

  /** Number of outputs. */
  get outputs(): number {
    return this.quantized?.outputs ?? this.weight.shape[this.layout === "oi" ? 0 : 1]!;
  }

  /** Returns activation(x·W + b) + residual, [..., out], for x [..., in]; activation and residual are optional. */
  forward(x: FloatTensor, options: LinearForwardOptions = {}): FloatTensor {
    const { adapter, bias } = this;
    return adapter?.active ? adapter.forward(x, this, options) : this.product(x, { bias, ...options });
  }

  /** @internal Returns activation(x·W + b) + residual without adapters; b is the bias in the options, not the layer's. */
  product(x: FloatTensor, options: Omit<LinearOptions, "layout"> = {}): FloatTensor {
    const { layout, quantized } = this;
    return quantized ? quantizedLinear(x, quantized, options) : linear(x, this.weight, { layout, ...options });
  }
}
