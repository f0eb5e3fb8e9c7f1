// Loads and saves Llama, Mistral, Qwen 2 and Qwen 3. Parameters have Hugging Face's names and layouts. Some files of
// models that make vectors lack the names' prefix "model.". If a model rotates neighbouring dimensions, the rows of its
// queries and keys are reordered into halves when it is saved.
import type { WeightFile } from "../../formats/weights.js";
import { Llama } from "../../models/llama.js";
import { fromHuggingFaceLlamaConfig, llamaTypes, toHuggingFaceLlamaConfig } from "./llama-config.js";
import { checkLlamaConfig } from "../../models/llama-config.js";
import { neighboursToHalves } from "../../models/rotary-pairs.js";
import type { Family } from "./family.js";

const prefix = "model.";

/** Returns the name of a parameter in a file. */
const nameInFile = (name: string, { tensors }: WeightFile): string =>
  name.startsWith(prefix) && tensors.has("embed_tokens.weight") ? name.slice(prefix.length) : name;

export const llamaFamily: Family<Llama> = {
  types: llamaTypes,
  fromConfig(json) {
    const config = checkLlamaConfig(fromHuggingFaceLlamaConfig(json));
    const { vocabularySize, layers, width, feedForwardWidth: hidden, heads, headSize } = config;
    const last = `model.layers.${layers - 1}`;
    return {
      make: (options) => new Llama(config, options),
      sizes: (file) => [
        [nameInFile("model.embed_tokens.weight", file), [vocabularySize, width]],
        [nameInFile(`${last}.self_attn.q_proj.weight`, file), [heads * headSize, width]],
        [nameInFile(`${last}.mlp.gate_proj.weight`, file), [hidden, width]],
      ],
    };
  },
  weights: (model, file) => ({
    nameInFile: (name) => nameInFile(name, file),
    ignored: model.lm_head ? [] : ["lm_head.weight"],
  }),
  saving: {
    owns: (model) => model instanceof Llama,
    toConfig: ({ config }) => toHuggingFaceLlamaConfig(config),
    layerInTransformers: (layer) => layer,
    values({ config }, parameter, values) {
      const [, part, kind] = /\.self_attn\.([qk])_(proj|norm)\./.exec(parameter) ?? [];
      if (!config.interleaved || part === undefined) return values;
      // The norms of queries and keys have the size of one head.
      const heads = kind === "norm" ? 1 : part === "q" ? config.heads : config.kvHeads;
      return neighboursToHalves(values, { ...config, heads });
    },
  },
};
