// The Llama family's configurations: what its members differ in, and the config.json of each.
import { checkArray, checkChoice, checkInteger, checkNumber, checkObject, mostLayers } from "../check.js";
import { HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import { rotaryFrequencies, type RotaryScaling } from "../ops/rotary-table.js";

const typesOfLayers = ["sliding", "full"] as const;

/** Whether the tokens of a layer see those of the window alone, or all before them. */
export type LayerType = (typeof typesOfLayers)[number];

/** The size and options of a Llama. */
export interface LlamaConfig {
  /** V */
  vocabularySize: number;
  /** The longest sequence. */
  contextLength: number;
  layers: number;
  heads: number;
  /** Heads of keys and values, a divisor of heads; heads unless given. */
  kvHeads?: number;
  /** C */
  width: number;
  /** D; width / heads unless given. */
  headSize?: number;
  /** Width of the feed-forward layers. */
  hidden: number;
  /** Of embeddings, attention weights and residual branches; 0 unless given. */
  dropout?: number;
  /** Of the RMS norms; 1e-5 unless given. */
  eps?: number;
  /** Whether the token embedding is the output projection; false unless given. */
  tied?: boolean;
  /** Biases of the queries, keys and values (Qwen 2); false unless given. */
  attentionBias?: boolean;
  /** Bias of attention's output projection; false unless given. */
  outputBias?: boolean;
  /** Biases of the feed-forward layers; false unless given. */
  feedForwardBias?: boolean;
  /** RMS norms of each head's query and key (Qwen 3); false unless given. */
  qkNorm?: boolean;
  /** "silu" unless given. */
  activation?: Activation;
  /** A token sees the last `window` tokens, itself included (Mistral); 0, all of them, unless given. */
  window?: number;
  /** Which layers have the window: the type of each, as in some Qwens. @default null: all of them, if there is one */
  layerTypes?: readonly LayerType[] | null;
  /** Base of the rotary wavelengths; 10000 unless given. */
  rotaryBase?: number;
  /** Dimensions of a head that are turned; all unless given. */
  rotarySize?: number;
  rotaryScaling?: RotaryScaling | null;
  /** Rotary positions turn neighbouring dimensions, as in Meta's and llama2.c's files, instead of halves. */
  interleaved?: boolean;
}

/** Every option filled in and checked. Throws ERR_RANGE, ERR_SHAPE or ERR_ARGUMENT. */
export function checkLlamaConfig(config: LlamaConfig): Required<LlamaConfig> {
  checkObject("Llama", "config", config);
  for (const name of ["heads", "width"] as const) checkInteger("Llama", name, config[name], 1, 2 ** 31 - 1);
  const headSize = config.headSize ?? config.width / config.heads;
  const full: Required<LlamaConfig> = {
    kvHeads: config.heads,
    dropout: 0,
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
  for (const name of ["vocabularySize", "contextLength", "kvHeads", "hidden"] as const)
    checkInteger("Llama", name, full[name], 1, 2 ** 31 - 1);
  checkInteger("Llama", "layers", full.layers, 1, mostLayers);
  checkNumber("Llama", "dropout", full.dropout, 0, 1);
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
  // For its checks.
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
    throw new HeedError("ERR_SHAPE", `Llama: expected layerTypes of ${layers} layers, got ${layerTypes.length}`);
  for (const [i, type] of layerTypes.entries()) checkChoice("Llama", `layerTypes[${i}]`, type, typesOfLayers);
  if (window === 0 && layerTypes.includes("sliding"))
    throw new HeedError("ERR_RANGE", "Llama: expected a window for layerTypes that are sliding, got 0");
}

/** The window of each layer; 0 where it has none. */
export function windowsOf({ window, layerTypes, layers }: Required<LlamaConfig>): number[] {
  return Array.from({ length: layers }, (_, layer) => (layerTypes?.[layer] === "full" ? 0 : window));
}
