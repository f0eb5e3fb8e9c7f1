import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { readLlama2c } from "../formats/llama2c.js";
import { Llama } from "../models/llama.js";
import { loadFrom } from "./load-weights.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "./quantize-options.js";

/**
 * Loads a model of llama2.c for inference; its tokenizer is a `Llama2cTokenizer`. Throws ERR_IO or ERR_FORMAT with
 * the file's name.
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
    () => ({ quantize }),
  );
  return model;
}
