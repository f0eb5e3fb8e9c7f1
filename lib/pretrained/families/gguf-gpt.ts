// GPT-2 in GGUF files: the keys of its sizes and the names of its tensors.
import { HeedError } from "../../util/errors.js";
import type { GgufInputValue } from "../../formats/write-gguf.js";
import { checkGptConfig } from "../../models/gpt-config.js";
import { toHuggingFaceGptConfig } from "./gpt-config.js";
import { GPT } from "../../models/gpt.js";
import type { GgufArchitecture } from "../gguf/architecture.js";

/** Modules of a block, with their names in the file. */
const blockNames: Record<string, string> = {
  ln_1: "attn_norm",
  "attn.c_attn": "attn_qkv",
  "attn.c_proj": "attn_output",
  ln_2: "ffn_norm",
  "mlp.c_fc": "ffn_up",
  "mlp.c_proj": "ffn_down",
};

const otherNames: Record<string, string> = {
  wte: "token_embd",
  wpe: "position_embd",
  ln_f: "output_norm",
};

/** GPT-2. Files store its matrices as [out, in]. */
export const gptArchitecture: GgufArchitecture<GPT> = {
  names: ["gpt2"],
  // Some files repeat the token embedding as the output projection.
  ignored: ["output.weight"],

  read(metadata, file) {
    const width = metadata.size("embedding_length");
    const config = checkGptConfig({
      vocabularySize: file.tensors.get("token_embd.weight")?.shape[0] ?? 1,
      contextLength: metadata.size("context_length"),
      layers: metadata.size("block_count"),
      heads: metadata.size("attention.head_count"),
      width,
      feedForwardWidth: metadata.size("feed_forward_length", 4 * width),
      eps: metadata.number("attention.layer_norm_epsilon"),
    });
    return (options) => new GPT(config, options);
  },

  parameter(name) {
    const [, block, module, kind] = /^(?:h\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name)!;
    if (block === undefined) return { name: `${otherNames[module!]}.${kind}` };
    const matrix = !module!.startsWith("ln_") && kind === "weight";
    return { name: `blk.${block}.${blockNames[module!]}.${kind}`, transposed: matrix };
  },

  owns: (model) => model instanceof GPT,

  write({ config }) {
    const { model_type: type } = toHuggingFaceGptConfig(config);
    const { bias, tied, activation, scaleAttention, scaleAttentionByLayer } = config;
    if (type !== "gpt2" || !bias || !tied || activation !== "gelu" || !scaleAttention || scaleAttentionByLayer)
      throw new HeedError("ERR_ARGUMENT", "gguf: expected a GPT with the options of GPT-2, got one with other options");
    const size = (value: number): GgufInputValue => ({ type: "u32", value });
    return {
      architecture: "gpt2",
      metadata: new Map<string, GgufInputValue>([
        ["vocab_size", size(config.vocabularySize)],
        ["context_length", size(config.contextLength)],
        ["embedding_length", size(config.width)],
        ["feed_forward_length", size(config.feedForwardWidth)],
        ["block_count", size(config.layers)],
        ["attention.head_count", size(config.heads)],
        ["attention.layer_norm_epsilon", { type: "f32", value: config.eps }],
      ]),
    };
  },
};
