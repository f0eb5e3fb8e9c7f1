import type { WeightFile } from "../../formats/weights.js";
import { GPT } from "../../models/gpt.js";
import { checkGptConfig, fromHuggingFaceConfig, gptTypes } from "../../models/gpt-config.js";
import type { Family } from "./family.js";

/** What the file puts before the names: that of transformers' language model does, others do not. */
function prefixOf(file: WeightFile): string {
  return file.tensors.has("transformer.wte.weight") ? "transformer." : "";
}

export const gptFamily: Family<GPT> = {
  types: gptTypes,
  fromConfig(json) {
    const config = checkGptConfig(fromHuggingFaceConfig(json));
    return (options) => new GPT(config, options);
  },
  weights: (_, file) => ({ nameInFile: (name) => prefixOf(file) + name, ignored: ["lm_head.weight"] }),
  sizes(json, file) {
    const { vocabularySize, contextLength, layers, width, positions } = checkGptConfig(fromHuggingFaceConfig(json));
    const prefix = prefixOf(file);
    return [
      [`${prefix}wte.weight`, [vocabularySize, width]],
      ...(positions === "learned"
        ? [[`${prefix}wpe.weight`, [contextLength, width]] satisfies [string, number[]]]
        : []),
      [`${prefix}h.${layers - 1}.ln_1.weight`, [width]],
    ];
  },
};
