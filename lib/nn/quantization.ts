import { HeedError } from "../util/errors.js";
import type { QuantizeOptions } from "../ops/quantize.js";
import type { Module } from "./module.js";
import { QuantizedWeight } from "./quantized-weight.js";
import { WeightLayer } from "./weight-layer.js";

/**
 * Returns the options with which `quantize` made a model what it is, or null if it did nothing. Weights that are as
 * their file stores them do not count, because the file alone makes them what they are.
 *
 * @throws ERR_ARGUMENT if only some of its layers are quantised, or in different ways, so that no such options exist.
 */
export function quantizationOf(op: string, model: Module): Required<QuantizeOptions> | null {
  const found = new Map<string, QuantizedWeight | null>();
  for (const [, layer] of model.modules()) {
    if (!(layer instanceof WeightLayer) || !layer.quantizable) continue;
    const { quantized } = layer;
    if (quantized instanceof QuantizedWeight)
      found.set(`${quantized.bits} bits in groups of ${quantized.groupSize}`, quantized);
    else found.set("no quantisation", null);
  }
  if (found.size > 1)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected all layers to be quantised in the same way, got ${[...found.keys()].join(" and ")}`,
    );
  const [weight = null] = found.values();
  return weight && { bits: weight.bits, groupSize: weight.groupSize };
}
