import { noGrad, parameter } from "../core/autograd.js";
import { dequantize, quantize, type QuantizeOptions } from "../ops/quantize.js";
import { contiguous, transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { Module } from "./module.js";
import { type BlockWeight, QuantizedWeight } from "./quantized-weight.js";

/** Layer of one weight matrix, and perhaps a bias. The matrix can be quantised. */
export abstract class WeightLayer extends Module {
  abstract readonly weight: FloatTensor;
  /** Order of `weight` in memory: [out, in] ("oi") or [in, out] ("io"). */
  abstract readonly layout: "oi" | "io";
  /** Weight in fewer bits that has replaced `weight`; null if the layer is not quantised. */
  quantized: QuantizedWeight | BlockWeight | null = null;

  /** @param quantizable false if `quantize` leaves the layer as it is, such as a small table. @default true */
  constructor(readonly quantizable = true) {
    super();
  }

  override quantize(options: QuantizeOptions = {}): this {
    if (this.quantized || !this.quantizable) return this;
    const { weight, layout } = this;
    this.replaceWeight(new QuantizedWeight(quantize(weight, { ...options, layout })));
    return this;
  }

  override dequantize(): this {
    const { weight, quantized, layout } = this;
    if (!quantized) return this;
    const restored = noGrad(() =>
      scope(() => {
        const rows = dequantize(quantized, { dtype: weight.modelDType }); // [out, in]
        return layout === "oi" ? rows : contiguous(transpose(rows));
      }),
    );
    parameter(restored).requiresGrad = false;
    Object.assign(this, { weight: restored, quantized: null });
    quantized.dispose();
    return this;
  }

  /** @internal Replaces the weight by `quantized` and frees it. */
  replaceWeight(quantized: QuantizedWeight | BlockWeight): void {
    this.quantized = quantized;
    this.weight.dispose();
  }
}
