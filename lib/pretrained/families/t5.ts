// Loads and saves T5, Flan-T5 and mT5. Parameters have Hugging Face's names and layouts.
import { T5 } from "../../models/t5.js";
import { checkT5Config } from "../../models/t5-config.js";
import { fromHuggingFaceT5Config, leavesTyingOpen, t5Types, toHuggingFaceT5Config } from "./t5-config.js";
import type { Family } from "./family.js";

const head = "lm_head.weight";
/** Copies of the embedding. */
const copies = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"];
/** Table of the first T5 that is in its files but was never used. */
const unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";

export const t5Family: Family<T5> = {
  types: t5Types,
  fromConfig(json) {
    const config = checkT5Config(fromHuggingFaceT5Config(json));
    const { vocabularySize, width, layers, heads, headSize } = config;
    return {
      make: (options, { tensors }) =>
        new T5(leavesTyingOpen(json) ? { ...config, tied: !tensors.has(head) } : config, options),
      sizes: () => [
        ["shared.weight", [vocabularySize, width]],
        [`encoder.block.${layers - 1}.layer.0.SelfAttention.q.weight`, [heads * headSize, width]],
      ],
    };
  },
  weights: () => ({ ignored: [...copies, unused, head] }),
  saving: {
    owns: (model) => model instanceof T5,
    toConfig: ({ config }) => toHuggingFaceT5Config(config),
    copies: ({ config }) => (config.tied && !config.scaleOutput ? { [head]: "shared.weight" } : {}),
  },
};
