import { describe, HeedError } from "../errors.js";
import { checkQuantizeOptions, type QuantizedBits, type QuantizeOptions } from "../ops/quantize.js";

export interface LoadQuantizedOptions {
  /** Puts the weights into 8 or 4 bits as they arrive (`Module.quantize`). */
  quantize?: QuantizedBits | QuantizeOptions;
}

/** What `Module.quantize` takes, null where nothing is to be done. Throws ERR_ARGUMENT: to be called before loading. */
export function quantizeOptionsOf(op: string, { quantize }: LoadQuantizedOptions): QuantizeOptions | null {
  if (quantize === undefined) return null;
  if (typeof quantize !== "object" && typeof quantize !== "number")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected quantize to be 8, 4 or options, got ${describe(quantize)}`);
  return checkQuantizeOptions(typeof quantize === "object" ? quantize : { bits: quantize });
}
