import { checkInteger, checkObject } from "../ops/check.js";
import { linear, type LinearOptions } from "../ops/linear.js";
import { quantizedLinear } from "../ops/quantize.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { WeightLayer } from "./weight-layer.js";

export interface LinearConfig {
  inputs: number;
  outputs: number;
  /** true unless given */
  bias?: boolean;
  /** Standard deviation of the first weights; 0.02 (GPT-2) unless given. */
  std?: number;
  /** Weight as [out, in] ("oi", the default) or [in, out] ("io", GPT-2's files). */
  layout?: "oi" | "io";
}

/**
 * x·W + b, optionally with an activation and a residual fused in: the one place that every projection of a model goes
 * through, whatever stands in for the weight or is added to the product.
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

  /** True if the layer is the product with `weight` and nothing else, so that a fused operation may take it over. */
  get plain(): boolean {
    return this.quantized === null;
  }

  /** [..., in] → [..., out] */
  forward(x: FloatTensor, options: Pick<LinearOptions, "activation" | "residual"> = {}): FloatTensor {
    const { bias, layout, quantized } = this;
    if (quantized) return quantizedLinear(x, quantized, { bias, ...options });
    return linear(x, this.weight, { bias, layout, ...options });
  }
}
