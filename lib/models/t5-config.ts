import { checkBoolean, checkInteger, checkNumber, checkObject, mostLayers } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";

/** Size and options of a T5. */
export interface T5Config {
  /** V, the number of tokens in the vocabulary. */
  vocabularySize: number;
  /** Length of the longest source and of the longest target, in tokens. @default 512 */
  contextLength?: number;
  /** Number of layers of the encoder. */
  layers: number;
  /** Number of layers of the decoder. @default layers */
  decoderLayers?: number;
  /** H, the number of attention heads. */
  heads: number;
  /** D, the size of a head. @default width / heads */
  headSize?: number;
  /** C, the width of a token's state. */
  width: number;
  /** Width between the feed-forward layers. @default 4·width */
  feedForwardWidth?: number;
  /** Number of buckets that the relative positions' distances fall into; an even number. @default 32 */
  buckets?: number;
  /** Distance beyond which all distances fall into the last bucket. @default 128 */
  furthest?: number;
  /** Epsilon that every RMS norm adds to the mean square. @default 1e-6 */
  eps?: number;
  /** Dropout probability of embeddings, attention weights, hidden layers and residual branches. @default 0 */
  dropout?: number;
  /** Activation of the feed-forward layers: "relu" in T5 1.0, "gelu" and `gated` in T5 1.1. @default "relu" */
  activation?: Activation;
  /** True if one half of the first feed-forward layer gates the other (T5 1.1). @default false */
  gated?: boolean;
  /** True if the embedding is the output projection. @default true */
  tied?: boolean;
  /** True if the decoder's output is multiplied by 1/√width before the output projection (T5 1.0). @default tied */
  scaleOutput?: boolean;
  /** Id of the token that stands before every target. @default 0 (padding) */
  startToken?: number;
  /** Id of the token that ends a target. @default 1 */
  endToken?: number;
}

/**
 * Returns the configuration with every default filled in, after checking it.
 *
 * @throws ERR_RANGE if a number is out of range.
 * @throws ERR_SHAPE if sizes do not fit together.
 * @throws ERR_ARGUMENT if an option has the wrong type or an unknown value.
 */
export function checkT5Config(config: T5Config): Required<T5Config> {
  checkObject("T5", "config", config);
  for (const name of ["heads", "width"] as const) checkInteger("T5", name, config[name], 1, 2 ** 31 - 1);
  const headSize = config.headSize ?? config.width / config.heads;
  const full: Required<T5Config> = {
    contextLength: 512,
    decoderLayers: config.layers,
    feedForwardWidth: 4 * config.width,
    buckets: 32,
    furthest: 128,
    eps: 1e-6,
    dropout: 0,
    activation: "relu",
    gated: false,
    tied: true,
    scaleOutput: config.tied ?? true,
    startToken: 0,
    endToken: 1,
    ...config,
    headSize,
  };
  for (const name of ["vocabularySize", "contextLength", "feedForwardWidth"] as const)
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
  for (const name of ["gated", "tied", "scaleOutput"] as const) checkBoolean("T5", name, full[name]);
  for (const name of ["startToken", "endToken"] as const)
    checkInteger("T5", name, full[name], 0, full.vocabularySize - 1);
  activationIndex("T5", full.activation);
  return full;
}
