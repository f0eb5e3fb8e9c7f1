// Configurations of the BERT family, with the defaults in which its members differ.
import { checkBoolean, checkChoice, checkInteger, checkNumber, checkObject, mostLayers } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";

/** Members of the family: they differ in their positions, their task heads and the parameter names in their files. */
export const bertFamilies = ["bert", "roberta", "xlm-roberta", "distilbert"] as const;
/** Member of the BERT family. */
export type BertFamily = (typeof bertFamilies)[number];

/** Size and options of a BERT. */
export interface BertConfig {
  /** Member of the family that the model belongs to. @default "bert" */
  family?: BertFamily;
  /** V, the number of tokens in the vocabulary. */
  vocabularySize: number;
  /** Length of the longest sequence, in tokens. */
  contextLength: number;
  /** Number of layers. */
  layers: number;
  /** H, the number of attention heads. */
  heads: number;
  /** C, the width of a token's state; a multiple of `heads`. */
  width: number;
  /** Width between the feed-forward layers. @default 4·width */
  feedForwardWidth?: number;
  /** Number of token types, such as first and second text; 0 for a model without types. @default 2; 0 for DistilBERT */
  tokenTypes?: number;
  /** Row of the position embeddings for the first token. @default 0; 2 for RoBERTa (the padding's id + 1) */
  firstPosition?: number;
  /** True if a dense layer with tanh pools the first token's state. @default true; false for DistilBERT */
  pooler?: boolean;
  /** Dropout probability of embeddings and residual branches. @default 0 */
  dropout?: number;
  /** Dropout probability of attention weights. @default dropout */
  attentionDropout?: number;
  /** Activation of the feed-forward layers. @default "geluErf" */
  activation?: Activation;
  /** Epsilon that every layer norm adds to the variance. @default 1e-12 */
  eps?: number;
}

/** Returns true for RoBERTa and XLM-RoBERTa, which count positions from the padding's id + 1. */
export function isRoberta(family: BertFamily): boolean {
  return family === "roberta" || family === "xlm-roberta";
}

/**
 * Returns the configuration with every default filled in, after checking it.
 *
 * @throws ERR_RANGE if a number is out of range.
 * @throws ERR_SHAPE if `width` is not a multiple of `heads`.
 * @throws ERR_ARGUMENT if an option has the wrong type or an unknown value.
 */
export function checkBertConfig(config: BertConfig): Required<BertConfig> {
  checkObject("Bert", "config", config);
  checkInteger("Bert", "width", config.width, 1, 2 ** 31 - 1);
  const { family = "bert" } = config;
  const full: Required<BertConfig> = {
    family,
    feedForwardWidth: 4 * config.width,
    tokenTypes: family === "distilbert" ? 0 : 2,
    firstPosition: isRoberta(family) ? 2 : 0,
    pooler: family !== "distilbert",
    dropout: 0,
    attentionDropout: config.dropout ?? 0,
    activation: "geluErf",
    eps: 1e-12,
    ...config,
  };
  checkChoice("Bert", "family", full.family, bertFamilies);
  for (const name of ["vocabularySize", "contextLength", "heads", "feedForwardWidth"] as const)
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
