// The Llama family's configurations: what its members differ in, and the config.json of each.
import { checkInteger, checkNumber, checkObject } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import { rotaryFrequencies, type RotaryScaling } from "../ops/rotary-table.js";
import { activationNamed, positiveInteger } from "./huggingface-config.js";

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
  const headSize = config.headSize ?? config.width / config.heads;
  const full: Required<LlamaConfig> = {
    kvHeads: config.heads,
    eps: 1e-5,
    tied: false,
    attentionBias: false,
    outputBias: false,
    feedForwardBias: false,
    qkNorm: false,
    activation: "silu",
    window: 0,
    rotaryBase: 10_000,
    rotarySize: headSize,
    rotaryScaling: null,
    interleaved: false,
    ...config,
    headSize,
  };
  for (const name of ["vocabularySize", "contextLength", "layers", "heads", "kvHeads", "width", "hidden"] as const)
    checkInteger("Llama", name, full[name], 1, 2 ** 31 - 1);
  checkNumber("Llama", "eps", full.eps, 0);
  checkInteger("Llama", "window", full.window, 0);
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

/** What the members of the family have where their config.json does not say. */
const families: Record<string, Partial<LlamaConfig>> = {
  llama: {},
  mistral: {},
  qwen2: { attentionBias: true },
  qwen3: { qkNorm: true },
};

/** The model types that `fromHuggingFaceLlamaConfig` reads. */
export const llamaTypes: readonly string[] = Object.keys(families);

/** Reads the config.json of a Llama, Mistral, Qwen 2 or Qwen 3. Throws ERR_FORMAT for what it does not understand. */
export function fromHuggingFaceLlamaConfig(json: unknown): LlamaConfig {
  const config = (typeof json === "object" && json !== null ? json : {}) as Record<string, unknown>;
  const family = String(config.model_type);
  if (!Object.hasOwn(families, family))
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected "model_type" ${llamaTypes.join(", ")}, got ${describe(config.model_type)}`,
    );
  const activation = activationNamed(config.hidden_act ?? "silu");
  if (!activation)
    throw new HeedError("ERR_FORMAT", `config: expected a known hidden_act, got ${describe(config.hidden_act)}`);
  const integer = (name: string): number => positiveInteger(config, name);
  const [width, heads, layers] = [integer("hidden_size"), integer("num_attention_heads"), integer("num_hidden_layers")];
  const headSize = config.head_dim == null ? width / heads : integer("head_dim");
  const contextLength = integer("max_position_embeddings");
  const rope = (config.rope_parameters ?? config.rope_scaling ?? {}) as Record<string, unknown>;
  return {
    vocabularySize: integer("vocab_size"),
    contextLength,
    layers,
    heads,
    kvHeads: config.num_key_value_heads == null ? heads : integer("num_key_value_heads"),
    width,
    headSize,
    hidden: integer("intermediate_size"),
    eps: number(config.rms_norm_eps, 1e-6),
    tied: config.tie_word_embeddings === true,
    qkNorm: false,
    ...families[family]!,
    ...(typeof config.attention_bias === "boolean" && {
      attentionBias: config.attention_bias,
      outputBias: config.attention_bias,
    }),
    feedForwardBias: config.mlp_bias === true,
    activation,
    window: windowOf(config, family, layers),
    rotaryBase: number(rope.rope_theta ?? config.rope_theta, 10_000),
    rotarySize: 2 * Math.floor((headSize * number(config.partial_rotary_factor, 1)) / 2),
    rotaryScaling: rotaryScaling(rope, contextLength),
  };
}

/** A Qwen has a window only where it says so, and then from a layer on: all layers or none is what a Llama can do. */
function windowOf(config: Record<string, unknown>, family: string, layers: number): number {
  const window = number(config.sliding_window, 0);
  if (!family.startsWith("qwen")) return window;
  if (config.use_sliding_window !== true) return 0;
  const first = number(config.max_window_layers, 28);
  if (first > 0 && first < layers)
    throw new HeedError("ERR_FORMAT", `config: expected max_window_layers 0 or from ${layers} on, got ${first}`);
  return first > 0 ? 0 : window;
}

/** `rope_scaling`, by its older and newer names. */
function rotaryScaling(rope: Record<string, unknown>, contextLength: number): RotaryScaling | null {
  const type = rope.rope_type ?? rope.type ?? "default";
  if (type === "default") return null;
  if (typeof type !== "string") throw unknownScaling(type);
  const factor = number(rope.factor, NaN);
  const originalLength = number(rope.original_max_position_embeddings, contextLength);
  const given = (entries: Record<string, unknown>): Record<string, number> =>
    Object.fromEntries(
      Object.entries(entries).filter((entry): entry is [string, number] => typeof entry[1] === "number"),
    );
  switch (type) {
    case "linear":
      return { type, factor };
    case "dynamic":
      return { type, factor, originalLength };
    case "yarn": {
      const { beta_fast: betaFast, beta_slow: betaSlow, attention_factor: attentionFactor } = rope;
      return { type, factor, originalLength, ...given({ betaFast, betaSlow, attentionFactor }) };
    }
    case "llama3": {
      const { low_freq_factor: lowFrequencyFactor, high_freq_factor: highFrequencyFactor } = rope;
      return { type, factor, originalLength, ...given({ lowFrequencyFactor, highFrequencyFactor }) };
    }
    default:
      throw unknownScaling(type);
  }
}

function unknownScaling(type: unknown): HeedError {
  return new HeedError(
    "ERR_FORMAT",
    `config: expected rope_scaling of type default, linear, dynamic, yarn or llama3, got ${describe(type)}`,
  );
}

function number(value: unknown, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}
