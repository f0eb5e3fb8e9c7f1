// The BERT family's configurations, and what its members differ in.
import { checkBoolean, checkChoice, checkInteger, checkNumber, checkObject, mostLayers } from "../check.js";
import { HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";

/** Members of the family: they differ in positions, in heads and in the names of their files. */
export const bertFamilies = ["bert", "roberta", "xlm-roberta", "distilbert"] as const;
export type BertFamily = (typeof bertFamilies)[number];

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
  checkChoice("Bert", "family", full.family, bertFamilies);
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
