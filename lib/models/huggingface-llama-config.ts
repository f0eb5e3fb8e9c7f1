// The config.json files of Hugging Face's Llama, Mistral, Qwen 2 and Qwen 3, there and back.
import { describe, HeedError } from "../errors.js";
import type { RotaryScaling } from "../ops/rotary-table.js";
import { activationNamed, nameOfActivation, positiveInteger } from "./huggingface-config.js";
import type { LlamaConfig } from "./llama-config.js";

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
    dropout: number(config.attention_dropout, 0),
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
    case "longrope": {
      const { long_factor: long, short_factor: short, attention_factor: attention } = rope;
      const same = Array.isArray(long) && Array.isArray(short) && long.every((factor, i) => factor === short[i]);
      if (!same || attention !== 1)
        throw new HeedError(
          "ERR_FORMAT",
          "config: expected longrope with one list of factors for short and long texts and attention_factor 1, got others",
        );
      return { type: "factors", factors: long as number[] };
    }
    default:
      throw unknownScaling(type);
  }
}

function unknownScaling(type: unknown): HeedError {
  return new HeedError(
    "ERR_FORMAT",
    `config: expected rope_scaling of type default, linear, dynamic, yarn, llama3 or longrope, got ${describe(type)}`,
  );
}

function number(value: unknown, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}

/**
 * The config.json of a Llama, by the model type whose layers are these. Throws ERR_ARGUMENT where there is none. Pairs of
 * neighbours have no place in it: rows of queries and keys are to be put in the order of halves.
 */
export function toHuggingFaceLlamaConfig(config: Required<LlamaConfig>): Record<string, unknown> {
  const { attentionBias, outputBias, feedForwardBias, window, headSize, rotarySize } = config;
  const type = typeOf(config);
  const scaling = toRopeScaling(config.rotaryScaling);
  return {
    architectures: [classes[type]],
    model_type: type,
    vocab_size: config.vocabularySize,
    max_position_embeddings: config.contextLength,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    hidden_size: config.width,
    head_dim: headSize,
    intermediate_size: config.hidden,
    hidden_act: nameOfActivation(config.activation),
    rms_norm_eps: config.eps,
    attention_dropout: config.dropout,
    tie_word_embeddings: config.tied,
    rope_theta: config.rotaryBase,
    rope_scaling: scaling,
    ...(rotarySize !== headSize && { partial_rotary_factor: rotarySize / headSize }),
    ...(type === "llama" && { attention_bias: outputBias, mlp_bias: feedForwardBias }),
    ...(type === "qwen3" && { attention_bias: attentionBias }),
    ...(type === "mistral" && { sliding_window: window }),
    ...(type.startsWith("qwen") &&
      window > 0 && { use_sliding_window: true, sliding_window: window, max_window_layers: 0 }),
  };
}

const classes: Record<string, string> = {
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
};

/** The model type that has these layers, and no others. */
function typeOf(config: Required<LlamaConfig>): string {
  const { qkNorm, attentionBias, outputBias, feedForwardBias, window } = config;
  if (qkNorm && attentionBias === outputBias && !feedForwardBias) return "qwen3";
  if (!qkNorm && attentionBias && !outputBias && !feedForwardBias) return "qwen2";
  if (!qkNorm && attentionBias === outputBias && window === 0) return "llama";
  if (!qkNorm && !attentionBias && !outputBias && !feedForwardBias) return "mistral";
  const given = Object.entries({ qkNorm, attentionBias, outputBias, feedForwardBias, window }).filter(([, on]) => on);
  throw new HeedError(
    "ERR_ARGUMENT",
    `config: expected layers of a Llama, Mistral, Qwen 2 or Qwen 3, got ${given.map(([name]) => name).join(", ")} together`,
  );
}

function toRopeScaling(scaling: RotaryScaling | null): Record<string, unknown> | null {
  if (!scaling) return null;
  switch (scaling.type) {
    case "linear":
      return { rope_type: "linear", factor: scaling.factor };
    case "dynamic":
      return {
        rope_type: "dynamic",
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalLength,
      };
    case "yarn": {
      const { factor, originalLength, betaFast, betaSlow, attentionFactor } = scaling;
      const given = { beta_fast: betaFast, beta_slow: betaSlow, attention_factor: attentionFactor };
      return { rope_type: "yarn", factor, original_max_position_embeddings: originalLength, ...defined(given) };
    }
    case "llama3": {
      const { factor, originalLength, lowFrequencyFactor = 1, highFrequencyFactor = 4 } = scaling;
      return {
        rope_type: "llama3",
        factor,
        original_max_position_embeddings: originalLength,
        low_freq_factor: lowFrequencyFactor,
        high_freq_factor: highFrequencyFactor,
      };
    }
    case "factors": {
      const factors = [...scaling.factors];
      return { rope_type: "longrope", factor: 1, attention_factor: 1, short_factor: factors, long_factor: factors };
    }
    case "ntk":
      throw new HeedError(
        "ERR_ARGUMENT",
        'config: expected rotary positions scaled in a way that Hugging Face knows, got "ntk"',
      );
  }
}

function defined(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
