// The config.json of T5, Flan-T5 and mT5.
import { describe, HeedError } from "../../errors.js";
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

/** The model types that `fromHuggingFaceT5Config` reads. */
export const t5Types: readonly string[] = ["t5", "mt5"];

/** Other names that transformers reads. */
const aliases = {
  hidden_size: "d_model",
  head_dim: "d_kv",
  num_attention_heads: "num_heads",
  num_hidden_layers: "num_layers",
};

/** Reads the config.json of a T5, Flan-T5 or mT5. Throws ERR_FORMAT for what it does not understand. */
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
    hidden: integer("d_ff"),
    buckets: integer("relative_attention_num_buckets", 32),
    furthest: integer("relative_attention_max_distance", 128),
    eps: numberOf(config, "layer_norm_epsilon", 1e-6),
    dropout: numberOf(config, "dropout_rate", 0.1),
    ...feedForwardOf(config, multilingual ? "gated-gelu" : "relu"),
    tied: booleanOf(config, "tie_word_embeddings", !multilingual),
    startToken: numberOf(config, "decoder_start_token_id", numberOf(config, "pad_token_id", 0)),
    endToken: numberOf(config, "eos_token_id", 1),
  };
}

/** "gated-" before the activation, of which "gated-gelu" has the tanh form. */
function feedForwardOf(
  config: Readonly<Record<string, unknown>>,
  otherwise: string,
): { gated: boolean; activation: Activation } {
  const given = config.feed_forward_proj ?? otherwise;
  const gated = typeof given === "string" && given.startsWith("gated-");
  const activation = given === "gated-gelu" ? "gelu" : activationNamed(gated ? given.slice("gated-".length) : given);
  if (!activation)
    throw new HeedError("ERR_FORMAT", `config: expected a known feed_forward_proj, got ${describe(given)}`);
  // What transformers derives of it, and writes beside it.
  expectEntry(config, "is_gated_act", gated);
  const derived = config.dense_act_fn ?? nameOfActivation(activation);
  if (activationNamed(derived) !== activation)
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected dense_act_fn to be that of feed_forward_proj, ${describe(given)}, got ${describe(derived)}`,
    );
  return { gated, activation };
}

/** The config.json of such a model, for Hugging Face's tools. */
export function toHuggingFaceT5Config(config: Required<T5Config>): Record<string, unknown> {
  const { gated, activation } = config;
  // "gated-gelu" is the tanh form.
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
    d_ff: config.hidden,
    relative_attention_num_buckets: config.buckets,
    relative_attention_max_distance: config.furthest,
    layer_norm_epsilon: config.eps,
    dropout_rate: config.dropout,
    feed_forward_proj: gated ? `gated-${name}` : name,
    tie_word_embeddings: config.tied,
    pad_token_id: 0,
    decoder_start_token_id: config.startToken,
    eos_token_id: config.endToken,
  };
}
