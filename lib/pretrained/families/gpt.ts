// Loads and saves GPTs. Parameters have the names and layouts of GPT-2's published weights; some files add the prefix
// "transformer." to the names.
import type { WeightFile } from "../../formats/weights.js";
import { GPT } from "../../models/gpt.js";
import { checkGptConfig } from "../../models/gpt-config.js";
import { fromHuggingFaceGptConfig, gptTypes, toHuggingFaceGptConfig } from "./gpt-config.js";
import type { Family } from "./family.js";

/** Returns the prefix of the names in the file: files of transformers' language model have one, others do not. */
function prefixOf(file: WeightFile): string {
  return file.tensors.has("transformer.wte.weight") ? "transformer." : "";
}

const headName = "lm_head.weight";

export const gptFamily: Family<GPT> = {
  types: gptTypes,
  fromConfig(json) {
    const config = checkGptConfig(fromHuggingFaceGptConfig(json));
    const { vocabularySize, contextLength, layers, width, feedForwardWidth: hidden, gated, positions } = config;
    return {
      make: (options) => new GPT(config, options),
      sizes(file) {
        const prefix = prefixOf(file);
        return [
          [`${prefix}wte.weight`, [vocabularySize, width]],
          ...(positions === "learned"
            ? [[`${prefix}wpe.weight`, [contextLength, width]] satisfies [string, number[]]]
            : []),
          [`${prefix}h.${layers - 1}.mlp.c_fc.weight`, [width, gated ? 2 * hidden : hidden]],
        ];
      },
    };
  },
  weights: (model, file) => ({
    nameInFile: (name) => (name === headName ? name : prefixOf(file) + name),
    ignored: model.lm_head ? [] : [headName],
  }),
  saving: {
    owns: (model) => model instanceof GPT,
    toConfig: ({ config }) => toHuggingFaceGptConfig(config),
    layerInTransformers: (layer) => (layer === "lm_head" ? layer : `transformer.${layer}`),
  },
};
