import { checkArray, checkBoolean, checkChoice, checkInteger, checkNumber, checkObject, mostLayers } from "../check.js";
import { HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import { checkSinusoids, type Sinusoids } from "../ops/sinusoidal-table.js";

const positionings = ["sinusoidal", "learned", "none"] as const;
const norms = ["pre", "post"] as const;

/** The size and options of an encoder–decoder. What is not given is as in the paper (Vaswani et al. 2017). */
export interface EncoderDecoderConfig {
  sourceVocabularySize: number;
  /** The source's unless given. */
  targetVocabularySize?: number;
  /** Whether source and target have one vocabulary and one embedding; true where their sizes are the same, unless given. */
  shared?: boolean;
  /** The longest source and the longest target. */
  contextLength: number;
  /** Of the encoder. */
  layers: number;
  /** As many as the encoder's unless given. */
  decoderLayers?: number;
  heads: number;
  /** C, a multiple of heads. */
  width: number;
  /** Width of the feed-forward layers; 4·width unless given. */
  hidden?: number;
  /** The token that every target begins after. */
  startToken: number;
  /** The token that ends a target. */
  endToken: number;
  /** Tokens that are never generated, such as padding; none unless given. */
  suppressedTokens?: readonly number[];
  /** Of embeddings and of what each part adds to the residual stream; 0 unless given. */
  dropout?: number;
  /** Of attention weights; 0 unless given. */
  attentionDropout?: number;
  /** "post" unless given: what comes out of each part is normed; "pre": what goes in. */
  norm?: "pre" | "post";
  /** Norms at the end of encoder and decoder; where `norm` is "pre" unless given. */
  finalNorms?: boolean;
  /** Of the norms; 1e-5 unless given. */
  eps?: number;
  /** "relu" unless given. */
  activation?: Activation;
  /** Biases in linear layers and layer norms; true unless given. */
  bias?: boolean;
  /** "sinusoidal" unless given. */
  positions?: (typeof positionings)[number];
  /** Which sinusoids: the paper's unless given. */
  sinusoids?: Sinusoids;
  /** Whether embeddings are multiplied by √width; true unless given. */
  scaleEmbeddings?: boolean;
  /** Whether the target's embedding is the output projection; true unless given. */
  tied?: boolean;
  /** A bias of the logits; false unless given. */
  logitsBias?: boolean;
}

/** Every option filled in and checked. Throws ERR_RANGE, ERR_SHAPE or ERR_ARGUMENT. */
export function checkEncoderDecoderConfig(config: EncoderDecoderConfig): Required<EncoderDecoderConfig> {
  const op = "EncoderDecoder";
  checkObject(op, "config", config);
  checkInteger(op, "width", config.width, 1, 2 ** 31 - 1);
  const { sourceVocabularySize, targetVocabularySize = sourceVocabularySize } = config;
  const full = {
    targetVocabularySize,
    shared: sourceVocabularySize === targetVocabularySize,
    decoderLayers: config.layers,
    hidden: 4 * config.width,
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
  for (const name of ["sourceVocabularySize", "targetVocabularySize", "contextLength", "heads", "hidden"] as const)
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
      `${op}: expected a shared vocabulary of one size, got ${sourceVocabularySize} and ${targetVocabularySize}`,
    );
  checkChoice(op, "norm", full.norm, norms);
  checkChoice(op, "positions", full.positions, positionings);
  if (full.positions === "sinusoidal" && full.width % 2 !== 0)
    throw new HeedError("ERR_SHAPE", `${op}: expected an even width for sinusoidal positions, got ${full.width}`);
  activationIndex(op, full.activation);
  return full;
}
