import { Llama } from "../../models/llama.js";
import { checkLlamaConfig, fromHuggingFaceLlamaConfig, llamaTypes } from "../../models/llama-config.js";
import type { Family } from "./family.js";

export const llamaFamily: Family<Llama> = {
  types: llamaTypes,
  fromConfig(json) {
    const config = checkLlamaConfig(fromHuggingFaceLlamaConfig(json));
    return (options) => new Llama(config, options);
  },
  weights: (model) => ({ ignored: model.lm_head ? [] : ["lm_head.weight"] }),
};
