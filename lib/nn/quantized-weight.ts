import { keep } from "../scope.js";
import { quantize, type QuantizedBits, type QuantizedTensors, type QuantizeOptions } from "../ops/quantize.js";
import type { FloatTensor, Tensor } from "../tensor.js";
import { Module } from "./module.js";

/** What takes a weight's place in a model that is quantised: no parameter, and moved and disposed with its module. */
export class QuantizedWeight extends Module implements QuantizedTensors {
  readonly codes: Tensor<"u8">;
  readonly scales: Tensor<"bf16">;
  readonly inputs: number;
  readonly outputs: number;
  readonly bits: QuantizedBits;

  constructor(weight: FloatTensor, options: QuantizeOptions & { layout?: "oi" | "io" }) {
    super();
    const { codes, scales, inputs, outputs, bits } = quantize(weight, options);
    this.codes = keep(codes);
    this.scales = keep(scales);
    this.inputs = inputs;
    this.outputs = outputs;
    this.bits = bits;
  }

  override get isQuantized(): boolean {
    return true;
  }
}
