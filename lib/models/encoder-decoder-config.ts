import {
  checkArray,
  checkBoolean,
  checkChoice,
  checkInteger,
  checkNumber,
  checkObject,
  mostLayers,
} from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import { checkSinusoids, type Sinusoids } from "../ops/sinusoidal-table.js";

const positionings = ["sinusoidal", "learned", "none"] as const;
const norms = ["pre", "post"] as const;

/** Size and options of an encoder–decoder. The defaults are those of the paper (Vaswani et al. 2017). */
export interface EncoderDecoderConfig {
  /** Number of tokens in the source's vocabulary. */
  sourceVocabularySize: number;
  /** V, the number of tokens in the target's vocabulary. @default sourceVocabularySize */
  targetVocabularySize?: number;
  /** True if source and target share one vocabulary and one embedding. @default true if the sizes are equal */
  shared?: boolean;
  /** Length of the longest source and of the longest target, in tokens. */
  contextLength: number;
  /** Number of layers of the encoder. */
  layers: number;
  /** Number of layers of the decoder. @default layers */
  decoderLayers?: number;
  /** H, the number of attention heads. */
  heads: number;
  /** C, the width of a token's state; a multiple of `heads`. */
  width: number;
  /** Width between the feed-forward layers. @default 4·width */
  feedForwardWidth?: number;
  /** Id of the token that stands before every target. */
  startToken: number;
  /** Id of the token that ends a target. */
  endToken: number;
  /** Ids of tokens that are never generated, such as padding. @default [] */
  suppressedTokens?: readonly number[];
  /** Dropout probability of embeddings and of what each part adds to the residual stream. @default 0 */
  dropout?: number;
  /** Dropout probability of attention weights. @default 0 */
  attentionDropout?: number;
  /** Place of the norms: "post" normalises the sum after each part, "pre" the input of each part. @default "post" */
  norm?: "pre" | "post";
  /** True if encoder and decoder end in a norm. @default true if `norm` is "pre" */
  finalNorms?: boolean;
  /** Epsilon that every norm adds to the variance. @default 1e-5 */
  eps?: number;
  /** Activation of the feed-forward layers. @default "relu" */
  activation?: Activation;
  /** True if linear layers and layer norms have biases. @default true */
  bias?: boolean;
  /** Kind of the positions that are added to the embeddings. @default "sinusoidal" */
  positions?: (typeof positionings)[number];
  /** Layout of the sinusoids. @default the paper's */
  sinusoids?: Sinusoids;
  /** True if embeddings are multiplied by √width. @default true */
  scaleEmbeddings?: boolean;
  /** True if the target's embedding is the output projection. @default true */
  tied?: boolean;
  /** True if the logits have a bias. @default false */
  logitsBias?: boolean;
}

/**
 * Returns the configuration with every default filled in, after checking it.
 *
 * @throws ERR_RANGE if a number is out of range.
 * @throws ERR_SHAPE if sizes do not fit together.
 * @throws ERR_ARGUMENT if an option has the wrong type or an unknown value.
 */
export function checkEncoderDecoderConfig(config: EncoderDecoderConfig): Required<EncoderDecoderConfig> {
  const op = "EncoderDecoder";
  checkObject(op, "config", config);
  checkInteger(op, "width", config.width, 1, 2 ** 31 - 1);
  const { sourceVocabularySize, targetVocabularySize = sourceVocabularySize } = config;
  const full = {
    targetVocabularySize,
    shared: sourceVocabularySize === targetVocabularySize,
    decoderLayers: config.layers,
    feedForwardWidth: 4 * config.width,
    suppressedTokens: [],
    dropout: 0,
    attentionDropout: 0,
    norm: "post",
    finalNorms: config.norm === "pre",
    eps: 1e-5,
    activation: "relu",
    bias: true,
    positions: "sinusoidal",
    scaleEmbeddings: true,
    tied: true,
    logitsBias: false,
    ...config,
    sinusoids: checkSinusoids(op, config.sinusoids ?? {}),
  } satisfies Required<EncoderDecoderConfig>;
  for (const name of [
    "sourceVocabularySize",
    "targetVocabularySize",
    "contextLength",
    "heads",
    "feedForwardWidth",
  ] as const)
    checkInteger(op, name, full[name], 1, 2 ** 31 - 1);
  for (const name of ["layers", "decoderLayers"] as const) checkInteger(op, name, full[name], 1, mostLayers);
  for (const name of ["dropout", "attentionDropout"] as const) checkNumber(op, name, full[name], 0, 1);
  checkNumber(op, "eps", full.eps, 0);
  for (const name of ["startToken", "endToken"] as const)
    checkInteger(op, name, full[name], 0, targetVocabularySize - 1);
  for (const name of ["shared", "scaleEmbeddings", "finalNorms", "bias", "tied", "logitsBias"] as const)
    checkBoolean(op, name, full[name]);
  checkArray(op, "suppressedTokens", full.suppressedTokens);
  for (const [i, token] of full.suppressedTokens.entries())
    checkInteger(op, `suppressedTokens[${i}]`, token, 0, targetVocabularySize - 1);
  if (full.width % full.heads !== 0)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected width to be a multiple of ${full.heads} heads, got ${full.width}`,
    );
  if (full.shared && sourceVocabularySize !== targetVocabularySize)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected a shared vocabulary to have the same size on both sides, got ${sourceVocabularySize} and ${targetVocabularySize}`,
    );
  checkChoice(op, "norm", full.norm, norms);
  checkChoice(op, "positions", full.positions, positionings);
  if (full.positions === "sinusoidal" && full.width % 2 !== 0)
    throw new HeedError("ERR_SHAPE", `${op}: expected an even width for sinusoidal positions, got ${full.width}`);
  activationIndex(op, full.activation);
  return full;
}
