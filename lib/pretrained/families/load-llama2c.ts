import type { Device } from "../../core/device.js";
import type { FloatDType } from "../../core/dtype.js";
import { readLlama2c } from "../../formats/llama2c.js";
import { Llama } from "../../models/llama.js";
import { loadFrom } from "../load-weights.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "../quantize-options.js";

/**
 * Loads a model of llama2.c for inference. Its tokenizer is a separate file: see `Llama2cTokenizer.fromFile`.
 *
 * @example
 * const llama = new Llama({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16, feedForwardWidth: 64 });
 * await saveLlama2c("tiny-llama.bin", llama);
 * using same = await loadLlama2c("tiny-llama.bin", { device: "cpu" });
 *
 * @throws ERR_IO or ERR_FORMAT if the file is missing or malformed; the message names it.
 * @throws ERR_ARGUMENT if an option is invalid.
 */
export async function loadLlama2c(
  file: string,
  options: { device?: Device | string; dtype?: FloatDType } & LoadQuantizedOptions = {},
): Promise<Llama> {
  const quantize = quantizeOptionsOf("loadLlama2c", options);
  await using weights = await readLlama2c(file);
  const config = { ...weights.config, eps: 1e-5, interleaved: true };
  const { model } = await loadFrom(
    weights,
    () => new Llama(config, options),
    () => ({ quantize, activations: options.activations }),
  );
  return model;
}
