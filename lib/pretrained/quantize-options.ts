import { describe, HeedError } from "../util/errors.js";
import {
  type ActivationBits,
  checkActivations,
  checkQuantizeOptions,
  type QuantizedBits,
  type QuantizeOptions,
} from "../ops/quantize.js";

/** Option of the functions that load a model. */
export interface LoadQuantizedOptions {
  /**
   * Quantises the weights to 8 or 4 bits as they arrive (see `Module.quantize`). By default weights are as their file has
   * them: those that a GGUF file stores in blocks, or a folder in heed's codes, stay so, and are computed as they are
   * stored. If it is false, these become floats of `dtype`.
   * @default as in the file
   */
  quantize?: QuantizedBits | QuantizeOptions | false;
  /** Bits to which products with quantised weights may round activations (see `Module.roundActivations`). @default 16 */
  activations?: ActivationBits;
}

/**
 * Returns the options for `Module.quantize`, or null if the model is not to be quantised. Call it before loading, so
 * that invalid options are found early.
 *
 * @throws ERR_ARGUMENT if the options are invalid.
 */
export function quantizeOptionsOf(op: string, { quantize, activations }: LoadQuantizedOptions): QuantizeOptions | null {
  if (activations !== undefined) checkActivations(op, activations);
  if (quantize === undefined || quantize === false) return null;
  if (typeof quantize !== "object" && typeof quantize !== "number")
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected quantize to be 8, 4, false or an object of options, got ${describe(quantize)}`,
    );
  return checkQuantizeOptions(typeof quantize === "object" ? quantize : { bits: quantize });
}
