// The BERT family's configurations: what its members differ in, and the config.json of each.
import { checkBoolean, checkChoice, checkInteger, checkNumber, checkObject } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import { activationNamed, nameOfActivation, positiveInteger } from "./huggingface-config.js";

/** Members of the family: they differ in positions, in heads and in the names of their files. */
const families = ["bert", "roberta", "xlm-roberta", "distilbert"] as const;
export type BertFamily = (typeof families)[number];

/** The size and options of a BERT. */
export interface BertConfig {
  /** "bert" unless given. */
  family?: BertFamily;
  /** V */
  vocabularySize: number;
  /** The longest sequence. */
  contextLength: number;
  layers: number;
  heads: number;
  /** C, a multiple of heads. */
  width: number;
  /** Width of the feed-forward layers; 4·width unless given. */
  hidden?: number;
  /** Kinds of token, such as those of a first and a second text; 2 unless given, 0 for none. */
  tokenTypes?: number;
  /** Row of the position embeddings that a sequence begins at (RoBERTa: its padding id + 1); 0 unless given. */
  firstPosition?: number;
  /** A dense layer with tanh over the first token's state; true unless given. */
  pooler?: boolean;
  /** Of embeddings and residual branches; 0 unless given. */
  dropout?: number;
  /** Of the attention weights; `dropout` unless given. */
  attentionDropout?: number;
  /** "geluErf" unless given. */
  activation?: Activation;
  /** Of the layer norms; 1e-12 unless given. */
  eps?: number;
}

/** Every option filled in and checked. Throws ERR_RANGE, ERR_SHAPE or ERR_ARGUMENT. */
export function checkBertConfig(config: BertConfig): Required<BertConfig> {
  checkObject("Bert", "config", config);
  checkInteger("Bert", "width", config.width, 1, 2 ** 31 - 1);
  const full: Required<BertConfig> = {
    family: "bert",
    hidden: 4 * config.width,
    tokenTypes: 2,
    firstPosition: 0,
    pooler: true,
    dropout: 0,
    attentionDropout: config.dropout ?? 0,
    activation: "geluErf",
    eps: 1e-12,
    ...config,
  };
  checkChoice("Bert", "family", full.family, families);
  for (const name of ["vocabularySize", "contextLength", "layers", "heads", "hidden"] as const)
    checkInteger("Bert", name, full[name], 1, 2 ** 31 - 1);
  checkInteger("Bert", "tokenTypes", full.tokenTypes, 0, 2 ** 31 - 1);
  checkInteger("Bert", "firstPosition", full.firstPosition, 0, 2 ** 31 - 1);
  checkNumber("Bert", "dropout", full.dropout, 0, 1);
  checkNumber("Bert", "attentionDropout", full.attentionDropout, 0, 1);
  checkNumber("Bert", "eps", full.eps, 0);
  if (full.width % full.heads !== 0)
    throw new HeedError("ERR_SHAPE", `Bert: expected width to be a multiple of ${full.heads} heads, got ${full.width}`);
  checkBoolean("Bert", "pooler", full.pooler);
  activationIndex("Bert", full.activation);
  return full;
}

/** The model types that `fromHuggingFaceBertConfig` reads. */
export const bertTypes: readonly string[] = families;

/** What DistilBERT calls its sizes. */
const distilbertNames: Record<string, string> = {
  num_hidden_layers: "n_layers",
  num_attention_heads: "n_heads",
  hidden_size: "dim",
  intermediate_size: "hidden_dim",
  hidden_act: "activation",
  hidden_dropout_prob: "dropout",
  attention_probs_dropout_prob: "attention_dropout",
};

/** Reads the config.json of a BERT, RoBERTa, XLM-RoBERTa or DistilBERT. Throws ERR_FORMAT for what it does not understand. */
export function fromHuggingFaceBertConfig(json: unknown): BertConfig {
  const config = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  const family = families.find((name) => name === config.model_type);
  if (!family)
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected "model_type" ${bertTypes.join(", ")}, got ${describe(config.model_type)}`,
    );
  const named = (name: string): string => (family === "distilbert" ? (distilbertNames[name] ?? name) : name);
  const integer = (name: string): number => positiveInteger(config, named(name));
  const number = (name: string, otherwise: number): number => {
    const value = config[named(name)];
    return typeof value === "number" ? value : otherwise;
  };
  const given = config[named("hidden_act")] ?? "gelu";
  const activation = activationNamed(given);
  if (!activation)
    throw new HeedError("ERR_FORMAT", `config: expected a known ${named("hidden_act")}, got ${describe(given)}`);
  const positions = config.position_embedding_type ?? "absolute";
  if (positions !== "absolute")
    throw new HeedError("ERR_FORMAT", `config: expected absolute positions, got ${describe(positions)}`);
  if (config.is_decoder === true)
    throw new HeedError("ERR_FORMAT", "config: expected an encoder (is_decoder false), got a decoder");
  const roberta = family === "roberta" || family === "xlm-roberta";
  const firstPosition = roberta ? number("pad_token_id", 1) + 1 : 0;
  return {
    family,
    vocabularySize: integer("vocab_size"),
    contextLength: integer("max_position_embeddings") - firstPosition,
    layers: integer("num_hidden_layers"),
    heads: integer("num_attention_heads"),
    width: integer("hidden_size"),
    hidden: integer("intermediate_size"),
    tokenTypes: family === "distilbert" ? 0 : number("type_vocab_size", 2),
    firstPosition,
    pooler: family === "bert",
    dropout: number("hidden_dropout_prob", 0.1),
    attentionDropout: number("attention_probs_dropout_prob", 0.1),
    activation,
    eps: family === "distilbert" ? 1e-12 : number("layer_norm_eps", 1e-12),
  };
}

/** The config.json of such a model, for Hugging Face's tools. */
export function toHuggingFaceBertConfig(config: Required<BertConfig>): Record<string, unknown> {
  const { family, firstPosition } = config;
  const named = (name: string): string => (family === "distilbert" ? (distilbertNames[name] ?? name) : name);
  const entries: Record<string, unknown> = {
    vocab_size: config.vocabularySize,
    max_position_embeddings: config.contextLength + firstPosition,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    hidden_size: config.width,
    intermediate_size: config.hidden,
    hidden_act: nameOfActivation(config.activation),
    hidden_dropout_prob: config.dropout,
    attention_probs_dropout_prob: config.attentionDropout,
  };
  const roberta = family === "roberta" || family === "xlm-roberta";
  return {
    model_type: family,
    ...Object.fromEntries(Object.entries(entries).map(([name, value]) => [named(name), value])),
    ...(family !== "distilbert" && { type_vocab_size: config.tokenTypes, layer_norm_eps: config.eps }),
    ...(roberta && { pad_token_id: firstPosition - 1 }),
  };
}
