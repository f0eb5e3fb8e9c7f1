import { checkArray, checkObject } from "../../util/check.js";
import { describe, HeedError } from "../../util/errors.js";
import { CausalDecoder } from "../../models/causal-decoder.js";
import { Linear } from "../../nn/linear.js";
import { checkModule, type Module } from "../../nn/module.js";
import { QuantizedWeight } from "../../nn/quantized-weight.js";
import type { WeightLayer } from "../../nn/weight-layer.js";
import { checkQuantizeOptions, type QuantizeOptions } from "../../ops/quantize.js";
import { asInOut } from "../../ops/projection.js";
import { Calibration, quantizableLayers } from "./calibration.js";
import type { Feedback } from "./feedback.js";
import { quantizeMatrix } from "./quantize-matrix.js";

/** Options of `quantizeBySearch`. */
export interface QuantizeBySearchOptions extends QuantizeOptions {
  /**
   * Tokens of texts like those that the model will read; those beyond the context are not read. The errors of weights
   * that are rounded first are then made up for by later ones, so that the outputs for these texts change little (GPTQ).
   * A few hundred texts of some hundred tokens suffice. Without texts only scales are searched.
   * @default []
   */
  texts?: readonly Int32Array[];
  /** Called after each matrix. */
  onProgress?: (progress: { readonly quantized: number; readonly total: number }) => void;
}

/**
 * Quantises the weights of projections and of token tables to 8 or 4 bits, in place, as `Module.quantize` does but more
 * exactly and more slowly: of many scales for each group, the one with the least sum of squared errors is taken. With
 * texts, later weights of an output also make up for the errors of earlier ones. The quantised model is as large and as
 * fast as one from `Module.quantize`. If this fails while it runs, some of the model's weights are quantised.
 *
 * @example
 * const texts = [tokenizer.encode("The whale swam on. The sea was calm.")];
 * const small = new GPT({ vocabularySize: 256, contextLength: 64, layers: 2, heads: 2, width: 64 });
 * await quantizeBySearch(small, { bits: 4, texts });
 *
 * @throws ERR_ARGUMENT if an option is not supported, the model is quantised or has adapters, or texts are given for a
 * model other than a GPT or a Llama.
 * @throws ERR_RANGE if activations for the texts are not finite.
 * @see Frantar et al. 2022, "GPTQ", https://arxiv.org/abs/2210.17323
 */
export async function quantizeBySearch<M extends Module>(model: M, options: QuantizeBySearchOptions = {}): Promise<M> {
  const op = "quantizeBySearch";
  checkModule(op, model);
  checkObject(op, "options", options);
  const { texts = [], onProgress, ...rest } = options;
  const settings = checkQuantizeOptions(rest);
  checkArray(op, "texts", texts);
  if (model.isQuantized)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model that is not quantised, got a quantised one`);
  const layers = quantizableLayers(model);
  const adapted = layers.find(([, layer]) => layer instanceof Linear && layer.adapter);
  if (adapted)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model without adapters, got one at ${adapted[0]}`);
  if (texts.length > 0 && !(model instanceof CausalDecoder))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a GPT or a Llama to read the texts, got ${describe(model)}`);
  let quantized = 0;
  const quantizeLayer = async (layer: WeightLayer, feedback: Feedback | null): Promise<void> => {
    if (layer.quantized) return;
    using weight = asInOut(layer.weight, layer.layout);
    layer.replaceWeight(new QuantizedWeight(await quantizeMatrix(weight, settings, feedback)));
    onProgress?.({ quantized: ++quantized, total: layers.length });
  };
  if (model instanceof CausalDecoder && texts.length > 0) await new Calibration(op, model, texts, quantizeLayer).run();
  for (const [, layer] of layers) await quantizeLayer(layer, null);
  return model;
}
