import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { readLlama2c } from "../formats/llama2c.js";
import { Llama } from "../models/llama.js";
import { loadWeights, makeFor } from "./load-weights.js";

/**
 * Loads a checkpoint of llama2.c for inference; its tokenizer is a `Llama2cTokenizer`. Throws ERR_IO or ERR_FORMAT with
 * the file's name.
 */
export async function loadLlama2c(
  file: string,
  options: { device?: Device | string; dtype?: FloatDType } = {},
): Promise<Llama> {
  await using weights = await readLlama2c(file);
  const config = { ...weights.config, eps: 1e-5, interleaved: true };
  const model = makeFor(weights, () => new Llama(config, options));
  try {
    await loadWeights(model, weights);
  } catch (error) {
    model.dispose();
    throw error;
  }
  model.eval();
  return model;
}
