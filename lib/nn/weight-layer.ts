import { quantize, type QuantizeOptions } from "../ops/quantize.js";
import type { FloatTensor } from "../tensor.js";
import { Module } from "./module.js";
import { QuantizedWeight } from "./quantized-weight.js";

/** A layer that is one matrix, with a bias perhaps: the matrix can be put into few bits. */
export abstract class WeightLayer extends Module {
  abstract readonly weight: FloatTensor;
  /** How `weight` lies in memory: [out, in] ("oi") or [in, out] ("io"). */
  abstract readonly layout: "oi" | "io";
  /** What has taken the weight's place, if it was quantised. */
  quantized: QuantizedWeight | null = null;

  /** @param quantizable whether `quantize` changes the layer; a small table may be left as it is */
  constructor(readonly quantizable = true) {
    super();
  }

  override quantize(options: QuantizeOptions = {}): this {
    if (this.quantized || !this.quantizable) return this;
    const { weight, layout } = this;
    this.replaceWeight(new QuantizedWeight(quantize(weight, { ...options, layout })));
    return this;
  }

  /** @internal Puts `quantized` in the place of the weight, which is freed. */
  replaceWeight(quantized: QuantizedWeight): void {
    this.quantized = quantized;
    this.weight.dispose();
  }
}
