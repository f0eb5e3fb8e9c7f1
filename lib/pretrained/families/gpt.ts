import { GPT } from "../../models/gpt.js";
import { checkGptConfig, fromHuggingFaceConfig, gptTypes } from "../../models/gpt-config.js";
import type { Family } from "./family.js";

export const gptFamily: Family<GPT> = {
  types: gptTypes,
  fromConfig(json) {
    const config = checkGptConfig(fromHuggingFaceConfig(json));
    return (options) => new GPT(config, options);
  },
  weights: (_, file) => ({
    nameInFile: (name) => (file.tensors.has("transformer.wte.weight") ? `transformer.${name}` : name),
    ignored: ["lm_head.weight"],
  }),
};
