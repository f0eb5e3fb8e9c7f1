// T5's configurations, and the config.json of each.
import { checkBoolean, checkInteger, checkNumber, checkObject, mostLayers } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import {
  activationNamed,
  booleanOf,
  configOf,
  expectEntry,
  nameOfActivation,
  numberOf,
  positiveInteger,
} from "./huggingface-config.js";

/** The size and options of a T5. */
export interface T5Config {
  /** V */
  vocabularySize: number;
  /** The longest source and the longest target; 512 unless given. */
  contextLength?: number;
  /** Of the encoder. */
  layers: number;
  /** As many as the encoder's unless given. */
  decoderLayers?: number;
  heads: number;
  /** D; width / heads unless given. */
  headSize?: number;
  /** C */
  width: number;
  /** Width of the feed-forward layers; 4·width unless given. */
  hidden?: number;
  /** Kinds of distance that the relative positions tell apart; 32 unless given. */
  buckets?: number;
  /** From this distance on, all are of one kind; 128 unless given. */
  furthest?: number;
  /** Of the RMS norms; 1e-6 unless given. */
  eps?: number;
  /** Of embeddings, attention weights, hidden layers and residual branches; 0 unless given. */
  dropout?: number;
  /** "relu" (T5 1.0) unless given; 1.1 has "gelu", gated. */
  activation?: Activation;
  /** Whether one half of the feed-forward's first layer gates the other (T5 1.1); false unless given. */
  gated?: boolean;
  /** Whether the embedding is the output projection, behind a factor of 1/√width (T5 1.0); true unless given. */
  tied?: boolean;
  /** The token that every target begins after; 0, padding, unless given. */
  startToken?: number;
  /** The token that ends a target; 1 unless given. */
  endToken?: number;
}

/** Every option filled in and checked. Throws ERR_RANGE, ERR_SHAPE or ERR_ARGUMENT. */
export function checkT5Config(config: T5Config): Required<T5Config> {
  checkObject("T5", "config", config);
  for (const name of ["heads", "width"] as const) checkInteger("T5", name, config[name], 1, 2 ** 31 - 1);
  const headSize = config.headSize ?? config.width / config.heads;
  const full: Required<T5Config> = {
    contextLength: 512,
    decoderLayers: config.layers,
    hidden: 4 * config.width,
    buckets: 32,
    furthest: 128,
    eps: 1e-6,
    dropout: 0,
    activation: "relu",
    gated: false,
    tied: true,
    startToken: 0,
    endToken: 1,
    ...config,
    headSize,
  };
  for (const name of ["vocabularySize", "contextLength", "hidden"] as const)
    checkInteger("T5", name, full[name], 1, 2 ** 31 - 1);
  for (const name of ["layers", "decoderLayers"] as const) checkInteger("T5", name, full[name], 1, mostLayers);
  if (!Number.isInteger(headSize))
    throw new HeedError("ERR_SHAPE", `T5: expected width to be a multiple of ${full.heads} heads, got ${full.width}`);
  checkInteger("T5", "headSize", headSize, 1, 2 ** 31 - 1);
  checkInteger("T5", "buckets", full.buckets, 4, 2 ** 31 - 1);
  if (full.buckets % 2 !== 0)
    throw new HeedError("ERR_SHAPE", `T5: expected an even number of buckets, got ${full.buckets}`);
  checkInteger("T5", "furthest", full.furthest, full.buckets / 2 + 1);
  checkNumber("T5", "eps", full.eps, 0);
  checkNumber("T5", "dropout", full.dropout, 0, 1);
  for (const name of ["gated", "tied"] as const) checkBoolean("T5", name, full[name]);
  for (const name of ["startToken", "endToken"] as const)
    checkInteger("T5", name, full[name], 0, full.vocabularySize - 1);
  activationIndex("T5", full.activation);
  return full;
}

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
