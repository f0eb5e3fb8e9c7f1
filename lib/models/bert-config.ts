// The BERT family's configurations: what its members differ in, and the config.json of each.
import { checkBoolean, checkChoice, checkInteger, checkNumber, checkObject, mostLayers } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import {
  activationOf,
  configOf,
  expectEntry,
  nameOfActivation,
  numberOf,
  positiveInteger,
} from "./huggingface-config.js";

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
  /** Kinds of token, such as those of a first and a second text; 0 for none. @default 2; of a DistilBERT 0 */
  tokenTypes?: number;
  /** Row of the position embeddings that a sequence begins at. @default 0; of a RoBERTa 2, its padding id + 1 */
  firstPosition?: number;
  /** A dense layer with tanh over the first token's state. @default true; of a DistilBERT false */
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

/** RoBERTa and XLM-RoBERTa count positions from the padding's id on. */
export function isRoberta(family: BertFamily): boolean {
  return family === "roberta" || family === "xlm-roberta";
}

/** Every option filled in and checked. Throws ERR_RANGE, ERR_SHAPE or ERR_ARGUMENT. */
export function checkBertConfig(config: BertConfig): Required<BertConfig> {
  checkObject("Bert", "config", config);
  checkInteger("Bert", "width", config.width, 1, 2 ** 31 - 1);
  const { family = "bert" } = config;
  const full: Required<BertConfig> = {
    family,
    hidden: 4 * config.width,
    tokenTypes: family === "distilbert" ? 0 : 2,
    firstPosition: isRoberta(family) ? 2 : 0,
    pooler: family !== "distilbert",
    dropout: 0,
    attentionDropout: config.dropout ?? 0,
    activation: "geluErf",
    eps: 1e-12,
    ...config,
  };
  checkChoice("Bert", "family", full.family, families);
  for (const name of ["vocabularySize", "contextLength", "heads", "hidden"] as const)
    checkInteger("Bert", name, full[name], 1, 2 ** 31 - 1);
  checkInteger("Bert", "layers", full.layers, 1, mostLayers);
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

/** Other names that transformers reads of a DistilBERT. */
const distilbertAliases = { hidden_size: "dim", num_attention_heads: "n_heads", num_hidden_layers: "n_layers" };

/** Reads the config.json of a BERT, RoBERTa, XLM-RoBERTa or DistilBERT. Throws ERR_FORMAT for what it does not understand. */
export function fromHuggingFaceBertConfig(json: unknown): BertConfig {
  const { model_type: family } = configOf(json, bertTypes) as { model_type: BertFamily };
  const distilled = family === "distilbert";
  const config = configOf(json, bertTypes, distilled ? distilbertAliases : {});
  const named = (name: string): string => (distilled ? (distilbertNames[name] ?? name) : name);
  const integer = (name: string): number => positiveInteger(config, named(name));
  const number = (name: string, otherwise: number): number => numberOf(config, named(name), otherwise);
  expectEntry(config, "position_embedding_type", "absolute");
  expectEntry(config, "is_decoder", false);
  const firstPosition = isRoberta(family) ? number("pad_token_id", 1) + 1 : 0;
  return {
    family,
    vocabularySize: integer("vocab_size"),
    contextLength: integer("max_position_embeddings") - firstPosition,
    layers: integer("num_hidden_layers"),
    heads: integer("num_attention_heads"),
    width: integer("hidden_size"),
    hidden: integer("intermediate_size"),
    tokenTypes: distilled ? 0 : number("type_vocab_size", 2),
    firstPosition,
    pooler: family === "bert",
    dropout: number("hidden_dropout_prob", 0.1),
    attentionDropout: number("attention_probs_dropout_prob", 0.1),
    activation: activationOf(config, named("hidden_act"), "gelu"),
    eps: distilled ? 1e-12 : number("layer_norm_eps", 1e-12),
  };
}

/** The config.json of such a model, for Hugging Face's tools. Throws ERR_ARGUMENT for what the family does not have. */
export function toHuggingFaceBertConfig(config: Required<BertConfig>): Record<string, unknown> {
  checkFamily(config);
  const { family, firstPosition } = config;
  const distilled = family === "distilbert";
  const named = (name: string): string => (distilled ? (distilbertNames[name] ?? name) : name);
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
  return {
    model_type: family,
    ...Object.fromEntries(Object.entries(entries).map(([name, value]) => [named(name), value])),
    ...(!distilled && { type_vocab_size: config.tokenTypes, layer_norm_eps: config.eps }),
    ...(isRoberta(family) && { pad_token_id: firstPosition - 1 }),
  };
}

/** Throws ERR_ARGUMENT for options that Hugging Face's models of the family do not have. */
function checkFamily({ family, tokenTypes, firstPosition, pooler, eps, vocabularySize }: Required<BertConfig>): void {
  const expected = (what: string, given: unknown): HeedError =>
    new HeedError("ERR_ARGUMENT", `config: expected a ${family} with ${what}, got ${describe(given)}`);
  if (isRoberta(family)) {
    // The id of the padding comes before the first position.
    if (firstPosition < 1 || firstPosition > vocabularySize)
      throw expected(`firstPosition from 1 to ${vocabularySize}`, firstPosition);
  } else if (firstPosition !== 0) throw expected("firstPosition 0", firstPosition);
  if (family !== "distilbert") {
    if (tokenTypes === 0) throw expected("tokenTypes of at least 1", tokenTypes);
    return;
  }
  if (tokenTypes !== 0) throw expected("tokenTypes 0", tokenTypes);
  if (eps !== 1e-12) throw expected("eps 1e-12", eps);
  if (pooler) throw expected("pooler false", pooler);
}
