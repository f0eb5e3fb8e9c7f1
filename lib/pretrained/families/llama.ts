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
  sizes(json) {
    const { vocabularySize, layers, width, hidden, heads, headSize } = checkLlamaConfig(
      fromHuggingFaceLlamaConfig(json),
    );
    const last = `model.layers.${layers - 1}`;
    return [
      ["model.embed_tokens.weight", [vocabularySize, width]],
      [`${last}.self_attn.q_proj.weight`, [heads * headSize, width]],
      [`${last}.mlp.gate_proj.weight`, [hidden, width]],
    ];
  },
};
