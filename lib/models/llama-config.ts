// Configurations of the Llama family, whose options cover the differences between its members.
import { checkArray, checkChoice, checkInteger, checkNumber, checkObject, mostLayers } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import { rotaryFrequencies, type RotaryScaling } from "../ops/rotary-table.js";

const typesOfLayers = ["sliding", "full"] as const;

/** Type of a layer's attention: "sliding" sees only the window's tokens, "full" all tokens before. */
export type LayerType = (typeof typesOfLayers)[number];

/** Size and options of a Llama. */
export interface LlamaConfig {
  /** V, the number of tokens in the vocabulary. */
  vocabularySize: number;
  /** Length of the longest sequence, in tokens. */
  contextLength: number;
  /** Number of blocks. */
  layers: number;
  /** H, the number of heads of the queries. */
  heads: number;
  /** Number of heads of keys and values, a divisor of `heads`. @default heads */
  kvHeads?: number;
  /** C, the width of a token's state. */
  width: number;
  /** D, the size of a head. @default width / heads */
  headSize?: number;
  /** Width between the feed-forward layers. */
  feedForwardWidth: number;
  /** Dropout probability of embeddings and residual branches. @default 0 */
  dropout?: number;
  /** Dropout probability of attention weights. @default dropout */
  attentionDropout?: number | undefined;
  /** Epsilon that every RMS norm adds to the mean square. @default 1e-5 */
  eps?: number;
  /** True if the token embedding is the output projection. @default false */
  tied?: boolean;
  /** True if the projections of queries, keys and values have biases (Qwen 2). @default false */
  attentionBias?: boolean;
  /** True if attention's output projection has a bias. @default false */
  outputBias?: boolean;
  /** True if the feed-forward layers have biases. @default false */
  feedForwardBias?: boolean;
  /** True if each head's queries and keys are RMS-normalised (Qwen 3). @default false */
  qkNorm?: boolean;
  /** Activation of the feed-forward gate. @default "silu" */
  activation?: Activation;
  /** Number of tokens that a token sees back from itself, itself included (Mistral). 0 means all. @default 0 */
  window?: number;
  /** Type of each layer, as in some Qwens: only "sliding" layers have the window. @default null (all have it) */
  layerTypes?: readonly LayerType[] | null;
  /** Base of the rotary wavelengths. @default 10000 */
  rotaryBase?: number;
  /** Number of dimensions of a head that are rotated. @default headSize */
  rotarySize?: number;
  /** Scaling of the rotary wavelengths for longer contexts. @default null (none) */
  rotaryScaling?: RotaryScaling | null;
  /**
   * True if rotary positions pair neighbouring dimensions, as in Meta's and llama2.c's files, false if they pair the
   * halves of a head.
   * @default false
   */
  interleaved?: boolean;
}

/**
 * Returns the configuration with every default filled in, after checking it.
 *
 * @throws ERR_RANGE if a number is out of range.
 * @throws ERR_SHAPE if sizes do not fit together.
 * @throws ERR_ARGUMENT if an option has the wrong type or an unknown value.
 */
export function checkLlamaConfig(config: LlamaConfig): Required<LlamaConfig> {
  checkObject("Llama", "config", config);
  for (const name of ["heads", "width"] as const) checkInteger("Llama", name, config[name], 1, 2 ** 31 - 1);
  const headSize = config.headSize ?? config.width / config.heads;
  const full: Required<LlamaConfig> = {
    kvHeads: config.heads,
    dropout: 0,
    attentionDropout: undefined,
    eps: 1e-5,
    tied: false,
    attentionBias: false,
    outputBias: false,
    feedForwardBias: false,
    qkNorm: false,
    activation: "silu",
    window: 0,
    layerTypes: null,
    rotaryBase: 10_000,
    rotarySize: headSize,
    rotaryScaling: null,
    interleaved: false,
    ...config,
    headSize,
  };
  for (const name of ["vocabularySize", "contextLength", "kvHeads", "feedForwardWidth"] as const)
    checkInteger("Llama", name, full[name], 1, 2 ** 31 - 1);
  checkInteger("Llama", "layers", full.layers, 1, mostLayers);
  checkNumber("Llama", "dropout", full.dropout, 0, 1);
  checkNumber("Llama", "attentionDropout", full.attentionDropout ?? 0, 0, 1);
  checkNumber("Llama", "eps", full.eps, 0);
  checkInteger("Llama", "window", full.window, 0);
  checkLayerTypes(full);
  if (!Number.isInteger(headSize))
    throw new HeedError(
      "ERR_SHAPE",
      `Llama: expected width to be a multiple of ${full.heads} heads, got ${full.width}`,
    );
  checkInteger("Llama", "headSize", headSize, 1);
  checkInteger("Llama", "rotarySize", full.rotarySize, 2, headSize);
  const { rotarySize: size, contextLength: length, rotaryBase: base, rotaryScaling: scaling } = full;
  // Called only because it checks these options.
  rotaryFrequencies({ size, length, base, scaling });
  if (full.heads % full.kvHeads !== 0)
    throw new HeedError(
      "ERR_SHAPE",
      `Llama: expected heads to be a multiple of ${full.kvHeads} kvHeads, got ${full.heads}`,
    );
  activationIndex("Llama", full.activation);
  return full;
}

function checkLayerTypes({ layerTypes, layers, window }: Required<LlamaConfig>): void {
  if (layerTypes === null) return;
  checkArray("Llama", "layerTypes", layerTypes);
  if (layerTypes.length !== layers)
    throw new HeedError(
      "ERR_SHAPE",
      `Llama: expected layerTypes to have ${layers} entries, one for each layer, got ${layerTypes.length}`,
    );
  for (const [i, type] of layerTypes.entries()) checkChoice("Llama", `layerTypes[${i}]`, type, typesOfLayers);
  if (window === 0 && layerTypes.includes("sliding"))
    throw new HeedError("ERR_RANGE", "Llama: expected window to be at least 1 for sliding layers in layerTypes, got 0");
}

/** Returns the window of each layer; 0 stands for a layer without one. */
export function windowsOf({ window, layerTypes, layers }: Required<LlamaConfig>): number[] {
  return Array.from({ length: layers }, (_, layer) => (layerTypes?.[layer] === "full" ? 0 : window));
}
