import { checkBoolean, checkInteger, checkNumber, checkObject, mostLayers } from "../check.js";
import { HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";

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
