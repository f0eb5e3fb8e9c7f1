import { describe, HeedError } from "../errors.js";
import type { Module } from "../nn/module.js";
import type { QuantizedBits, QuantizeOptions } from "../ops/quantize.js";

export interface LoadQuantizedOptions {
  /** Puts the weights into 8 or 4 bits once they are loaded (`Module.quantize`). */
  quantize?: QuantizedBits | QuantizeOptions;
}

/** Does so. The model is disposed where the options are none. */
export function quantizeLoaded(op: string, model: Module, { quantize }: LoadQuantizedOptions): void {
  if (quantize === undefined) return;
  try {
    if (typeof quantize !== "object" && typeof quantize !== "number")
      throw new HeedError("ERR_ARGUMENT", `${op}: expected quantize to be 8, 4 or options, got ${describe(quantize)}`);
    model.quantize(typeof quantize === "object" ? quantize : { bits: quantize });
  } catch (error) {
    model.dispose();
    throw error;
  }
}
