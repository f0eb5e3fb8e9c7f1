// Reads and writes the config.json of GPT-2, and of GPTs with options that GPT-2 does not have ("heed_gpt").
import { dropoutsOf, type GptConfig, gptDefaults } from "../../models/gpt-config.js";
import {
  activationOf,
  booleanOf,
  configOf,
  expectEntry,
  nameOfActivation,
  numberOf,
  positiveInteger,
} from "./huggingface-config.js";

/**
 * Options that GPT-2 does not have. If a model uses one of them, its config.json has a model type of its own, so that
 * other tools do not take it for GPT-2.
 */
const beyondGpt2 = [
  "kvHeads",
  "positions",
  "window",
  "softcap",
  "qkNorm",
  "gated",
  "normalization",
  "embeddingScale",
  "residualScale",
] as const;
const ownType = "heed_gpt";

/** Alternative names of entries that transformers accepts. */
const aliases = {
  hidden_size: "n_embd",
  max_position_embeddings: "n_positions",
  num_attention_heads: "n_head",
  num_hidden_layers: "n_layer",
};

/** Model types that `fromHuggingFaceGptConfig` reads. */
export const gptTypes: readonly string[] = ["gpt2", ownType];

/**
 * Returns the config.json of a GPT, for Hugging Face's tools. The model type is "gpt2", or "heed_gpt" if the model has
 * options that GPT-2 does not have.
 *
 * @example
 * const json = toHuggingFaceGptConfig(gpt.config); // { model_type: "gpt2", vocab_size: 256, … }
 */
export function toHuggingFaceGptConfig(config: Required<GptConfig>): Record<string, unknown> {
  const usual = { ...gptDefaults, kvHeads: config.heads };
  const { embeddingDropout, attentionDropout, residualDropout } = dropoutsOf(config);
  const extra = beyondGpt2.filter((name) => config[name] !== usual[name]);
  return {
    ...(extra.length === 0
      ? { model_type: "gpt2", architectures: ["GPT2LMHeadModel"] }
      : { model_type: ownType, ...Object.fromEntries(extra.map((name) => [`heed_${name}`, config[name]])) }),
    vocab_size: config.vocabularySize,
    n_positions: config.contextLength,
    n_layer: config.layers,
    n_head: config.heads,
    n_embd: config.width,
    n_inner: config.feedForwardWidth,
    activation_function: nameOfActivation(config.activation),
    layer_norm_epsilon: config.eps,
    scale_attn_weights: config.scaleAttention,
    scale_attn_by_inverse_layer_idx: config.scaleAttentionByLayer,
    embd_pdrop: embeddingDropout,
    attn_pdrop: attentionDropout,
    resid_pdrop: residualDropout,
    tie_word_embeddings: config.tied,
    heed_bias: config.bias,
  };
}

/**
 * Returns the configuration in the config.json of a GPT-2, or of a GPT that heed saved.
 *
 * @example
 * const json = { model_type: "gpt2", vocab_size: 50257, n_positions: 1024, n_layer: 12, n_head: 12, n_embd: 768 };
 * const { layers, width } = fromHuggingFaceGptConfig(json); // 12 and 768
 *
 * @throws ERR_FORMAT if an entry has a wrong type, or asks for something that heed's `GPT` does not have.
 */
export function fromHuggingFaceGptConfig(json: unknown): GptConfig {
  const config = configOf(json, gptTypes, aliases);
  const integer = (name: string): number => positiveInteger(config, name);
  expectEntry(config, "add_cross_attention", false);
  const [embeddingDropout, attentionDropout, dropout] = (["embd_pdrop", "attn_pdrop", "resid_pdrop"] as const).map(
    (name) => numberOf(config, name, 0),
  ) as [number, number, number];
  return {
    vocabularySize: integer("vocab_size"),
    contextLength: integer("n_positions"),
    layers: integer("n_layer"),
    heads: integer("n_head"),
    width: integer("n_embd"),
    feedForwardWidth: config.n_inner == null ? 4 * integer("n_embd") : integer("n_inner"),
    tied: booleanOf(config, "tie_word_embeddings", true),
    activation: activationOf(config, "activation_function", "gelu_new"),
    eps: numberOf(config, "layer_norm_epsilon", 1e-5),
    dropout,
    ...(embeddingDropout !== dropout && { embeddingDropout }),
    ...(attentionDropout !== dropout && { attentionDropout }),
    bias: booleanOf(config, "heed_bias", true),
    scaleAttention: booleanOf(config, "scale_attn_weights", true),
    scaleAttentionByLayer: booleanOf(config, "scale_attn_by_inverse_layer_idx", false),
    // `checkGptConfig` checks these like any other options.
    ...Object.fromEntries(
      beyondGpt2.filter((name) => Object.hasOwn(config, `heed_${name}`)).map((name) => [name, config[`heed_${name}`]]),
    ),
  };
}
