import { checkInteger, checkObject } from "../ops/check.js";
import { linear, type LinearOptions } from "../ops/linear.js";
import { quantizedLinear } from "../ops/quantize.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
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

/**
 * Linear layer x·W + b, optionally with an activation and a residual fused in. Every projection of a model goes through
 * this class, so that it alone knows about quantised weights.
 *
 * @example
 * const up = new Linear({ inputs: 8, outputs: 32 }, new Initializer(1, device()));
 * up.forward(x, { activation: "gelu" }).shape; // [2, 32]
 */
export class Linear extends WeightLayer {
  readonly weight: FloatTensor;
  readonly bias: FloatTensor | null;
  readonly layout: "oi" | "io";

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
    return this.quantized === null;
  }

  /** Returns activation(x·W + b) + residual, [..., out], for x [..., in]; activation and residual are optional. */
  forward(x: FloatTensor, options: Pick<LinearOptions, "activation" | "residual"> = {}): FloatTensor {
    const { bias, layout, quantized } = this;
    if (quantized) return quantizedLinear(x, quantized, { bias, ...options });
    return linear(x, this.weight, { bias, layout, ...options });
  }
}
