// Reads and writes the config.json of T5, Flan-T5 and mT5.
import { describe, HeedError } from "../../util/errors.js";
import type { T5Config } from "../../models/t5-config.js";
import type { Activation } from "../../ops/activation.js";
import {
  activationNamed,
  booleanOf,
  configOf,
  expectEntry,
  nameOfActivation,
  numberOf,
  positiveInteger,
} from "./huggingface-config.js";

/** Model types that `fromHuggingFaceT5Config` reads. */
export const t5Types: readonly string[] = ["t5", "mt5"];

/** Alternative names of entries that transformers accepts. */
const aliases = {
  hidden_size: "d_model",
  head_dim: "d_kv",
  num_attention_heads: "num_heads",
  num_hidden_layers: "num_layers",
};

/**
 * Returns the configuration in the config.json of a T5, Flan-T5 or mT5.
 *
 * @example
 * const sizes = { vocab_size: 32128, num_layers: 6, num_heads: 8, d_kv: 64, d_model: 512, d_ff: 2048 };
 * const { layers, width } = fromHuggingFaceT5Config({ model_type: "t5", ...sizes }); // 6 and 512
 *
 * @throws ERR_FORMAT if an entry has a wrong type, or asks for something that heed's `T5` does not have.
 */
export function fromHuggingFaceT5Config(json: unknown): T5Config {
  const config = configOf(json, t5Types, aliases);
  const integer = (name: string, otherwise?: number): number =>
    otherwise !== undefined && config[name] == null ? otherwise : positiveInteger(config, name);
  const layers = integer("num_layers");
  const multilingual = config.model_type === "mt5";
  return {
    vocabularySize: integer("vocab_size"),
    contextLength: integer("n_positions", 512),
    layers,
    decoderLayers: integer("num_decoder_layers", layers),
    heads: integer("num_heads"),
    headSize: integer("d_kv"),
    width: integer("d_model"),
    feedForwardWidth: integer("d_ff"),
    buckets: integer("relative_attention_num_buckets", 32),
    furthest: integer("relative_attention_max_distance", 128),
    eps: numberOf(config, "layer_norm_epsilon", 1e-6),
    dropout: numberOf(config, "dropout_rate", 0.1),
    ...feedForwardOf(config, multilingual ? "gated-gelu" : "relu"),
    ...outputOf(config),
    startToken: numberOf(config, "decoder_start_token_id", numberOf(config, "pad_token_id", 0)),
    endToken: numberOf(config, "eos_token_id", 1),
  };
}

/**
 * Returns the options of the output projection. transformers 5 writes that embeddings are tied whatever they are, and has
 * an entry of its own for the scale, which an mT5 never has. Older versions scale the output if the embeddings are tied.
 */
function outputOf(config: Readonly<Record<string, unknown>>): { tied: boolean; scaleOutput: boolean } {
  const tied = booleanOf(config, "tie_word_embeddings", config.model_type !== "mt5");
  const scaleOutput = booleanOf(config, "scale_decoder_outputs", tied && !isNewMt5(config));
  // A projection with the embedding's values, for readers that scale whenever they tie, stands for the embedding.
  return { tied: booleanOf(config, "heed_tied", tied), scaleOutput };
}

/** Returns true for an mT5 that transformers 5 or newer saved. */
function isNewMt5({ model_type: type, transformers_version: version }: Readonly<Record<string, unknown>>): boolean {
  return type === "mt5" && typeof version === "string" && parseInt(version) >= 5;
}

/**
 * Returns true if the config.json of a T5 does not say whether its embeddings are tied, although it has an entry for it:
 * as transformers 5 writes it. The file then has an output projection exactly if the model has one of its own.
 */
export function leavesTyingOpen(json: unknown): boolean {
  const config = json as Readonly<Record<string, unknown>>;
  return config.heed_tied == null && (config.scale_decoder_outputs != null || isNewMt5(config));
}

/**
 * Returns the options in `feed_forward_proj`: an activation, after "gated-" if the feed-forward is gated. "gated-gelu"
 * is the tanh form of GELU.
 */
function feedForwardOf(
  config: Readonly<Record<string, unknown>>,
  otherwise: string,
): { gated: boolean; activation: Activation } {
  const given = config.feed_forward_proj ?? otherwise;
  const gated = typeof given === "string" && given.startsWith("gated-");
  const activation = given === "gated-gelu" ? "gelu" : activationNamed(gated ? given.slice("gated-".length) : given);
  if (!activation)
    throw new HeedError("ERR_FORMAT", `config: expected a known feed_forward_proj, got ${describe(given)}`);
  // transformers writes these two entries as well; it derives them from the first.
  expectEntry(config, "is_gated_act", gated);
  const derived = config.dense_act_fn ?? nameOfActivation(activation);
  if (activationNamed(derived) !== activation)
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected dense_act_fn to match feed_forward_proj (${describe(given)}), got ${describe(derived)}`,
    );
  return { gated, activation };
}

/**
 * Returns the config.json of a T5, for Hugging Face's tools.
 *
 * @example
 * const t5 = new T5({ vocabularySize: 256, layers: 2, heads: 2, width: 16 });
 * const json = toHuggingFaceT5Config(t5.config); // { model_type: "t5", vocab_size: 256, … }
 */
export function toHuggingFaceT5Config(config: Required<T5Config>): Record<string, unknown> {
  const { gated, activation } = config;
  // "gated-gelu" is the tanh form of GELU.
  const gatedNames: Partial<Record<Activation, string>> = { gelu: "gelu", geluErf: "gelu_python" };
  const name = (gated ? gatedNames[activation] : undefined) ?? nameOfActivation(activation);
  return {
    model_type: "t5",
    architectures: ["T5ForConditionalGeneration"],
    is_encoder_decoder: true,
    vocab_size: config.vocabularySize,
    n_positions: config.contextLength,
    num_layers: config.layers,
    num_decoder_layers: config.decoderLayers,
    num_heads: config.heads,
    d_kv: config.headSize,
    d_model: config.width,
    d_ff: config.feedForwardWidth,
    relative_attention_num_buckets: config.buckets,
    relative_attention_max_distance: config.furthest,
    layer_norm_epsilon: config.eps,
    dropout_rate: config.dropout,
    feed_forward_proj: gated ? `gated-${name}` : name,
    // Readers before transformers 5 scale the output exactly if the embeddings are tied. If a model ties without a scale,
    // the embedding is written a second time as its output projection.
    tie_word_embeddings: config.tied && config.scaleOutput,
    scale_decoder_outputs: config.scaleOutput,
    ...(config.tied && !config.scaleOutput && { heed_tied: true }),
    pad_token_id: 0,
    decoder_start_token_id: config.startToken,
    eos_token_id: config.endToken,
  };
}
