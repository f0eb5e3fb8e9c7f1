import { keep } from "../scope.js";
import type { QuantizedBits, QuantizedTensors } from "../ops/quantize.js";
import type { Tensor } from "../tensor.js";
import { Module } from "./module.js";

/** What takes a weight's place in a model that is quantised: no parameter, and moved and disposed with its module. */
export class QuantizedWeight extends Module implements QuantizedTensors {
  readonly codes: Tensor<"u8">;
  readonly scales: Tensor<"bf16">;
  readonly inputs: number;
  readonly outputs: number;
  readonly bits: QuantizedBits;

  /** The tensors become the module's. */
  constructor({ codes, scales, inputs, outputs, bits }: QuantizedTensors) {
    super();
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
