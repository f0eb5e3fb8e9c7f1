// Loads and saves Llama, Mistral, Qwen 2 and Qwen 3. Parameters have Hugging Face's names and layouts. If a model
// rotates neighbouring dimensions, the rows of its queries and keys are reordered into halves when it is saved.
import { Llama } from "../../models/llama.js";
import { fromHuggingFaceLlamaConfig, llamaTypes, toHuggingFaceLlamaConfig } from "./llama-config.js";
import { checkLlamaConfig } from "../../models/llama-config.js";
import { neighboursToHalves } from "../../models/rotary-pairs.js";
import type { Family } from "./family.js";

export const llamaFamily: Family<Llama> = {
  types: llamaTypes,
  fromConfig(json) {
    const config = checkLlamaConfig(fromHuggingFaceLlamaConfig(json));
    const { vocabularySize, layers, width, hidden, heads, headSize } = config;
    const last = `model.layers.${layers - 1}`;
    return {
      make: (options) => new Llama(config, options),
      sizes: () => [
        ["model.embed_tokens.weight", [vocabularySize, width]],
        [`${last}.self_attn.q_proj.weight`, [heads * headSize, width]],
        [`${last}.mlp.gate_proj.weight`, [hidden, width]],
      ],
    };
  },
  weights: (model) => ({ ignored: model.lm_head ? [] : ["lm_head.weight"] }),
  saving: {
    owns: (model) => model instanceof Llama,
    toConfig: ({ config }) => toHuggingFaceLlamaConfig(config),
    values({ config }, parameter, values) {
      const [, part, kind] = /\.self_attn\.([qk])_(proj|norm)\./.exec(parameter) ?? [];
      if (!config.interleaved || part === undefined) return values;
      // The norms of queries and keys have the size of one head.
      const heads = kind === "norm" ? 1 : part === "q" ? config.heads : config.kvHeads;
      return neighboursToHalves(values, { ...config, heads });
    },
  },
};
