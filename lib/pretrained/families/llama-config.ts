// Reads and writes the config.json of Llama, Mistral, Qwen 2 and Qwen 3.
import { mostLayers } from "../../util/check.js";
import { describe, HeedError } from "../../util/errors.js";
import {
  activationOf,
  booleanOf,
  configOf,
  nameOfActivation,
  numberOf,
  positiveInteger,
} from "./huggingface-config.js";
import { rotaryOf, toRotaryEntries } from "./huggingface-rope.js";
import { type LayerType, type LlamaConfig, windowsOf } from "../../models/llama-config.js";

type Entries = Readonly<Record<string, unknown>>;
type Family = "llama" | "mistral" | "qwen2" | "qwen3";

/** Defaults of each family for entries that its config.json omits, as in transformers' configuration classes. */
const families: Record<Family, { class: string; kvHeads?: number; headSize?: number }> = {
  llama: { class: "LlamaForCausalLM" },
  mistral: { class: "MistralForCausalLM", kvHeads: 8 },
  qwen2: { class: "Qwen2ForCausalLM", kvHeads: 32 },
  qwen3: { class: "Qwen3ForCausalLM", kvHeads: 32, headSize: 128 },
};

/** Model types that `fromHuggingFaceLlamaConfig` reads. */
export const llamaTypes: readonly string[] = Object.keys(families);

/**
 * Returns the configuration in the config.json of a Llama, Mistral, Qwen 2 or Qwen 3.
 *
 * @example
 * const sizes = { num_hidden_layers: 16, num_attention_heads: 32, hidden_size: 2048, intermediate_size: 8192 };
 * const json = { model_type: "llama", vocab_size: 128256, max_position_embeddings: 131072, ...sizes };
 * const { layers, headSize } = fromHuggingFaceLlamaConfig(json); // 16 and 64
 *
 * @throws ERR_FORMAT if an entry has a wrong type, or asks for something that heed's `Llama` does not have.
 */
export function fromHuggingFaceLlamaConfig(json: unknown): LlamaConfig {
  const config = configOf(json, llamaTypes);
  const family = config.model_type as Family;
  const usual = families[family];
  const integer = (name: string): number => positiveInteger(config, name);
  /** Returns the integer of an entry, `missing` if the entry is absent, or `none` if it is null. */
  const optional = (name: string, missing: number, none: number): number =>
    config[name] === undefined ? missing : config[name] === null ? none : integer(name);
  const [width, heads] = [integer("hidden_size"), integer("num_attention_heads")];
  // The number is limited because a list of the layers' types is made below.
  const layers = positiveInteger(config, "num_hidden_layers", mostLayers);
  const headSize = optional("head_dim", usual.headSize ?? width / heads, width / heads);
  const contextLength = integer("max_position_embeddings");
  return {
    vocabularySize: integer("vocab_size"),
    contextLength,
    layers,
    heads,
    kvHeads: optional("num_key_value_heads", usual.kvHeads ?? heads, heads),
    width,
    headSize,
    feedForwardWidth: integer("intermediate_size"),
    ...dropoutOf(config),
    eps: numberOf(config, "rms_norm_eps", 1e-6),
    tied: booleanOf(config, "tie_word_embeddings", false),
    ...partsOf(config, family),
    activation: activationOf(config, "hidden_act", "silu"),
    ...windowOf(config, family, layers),
    ...rotaryOf(config, headSize, contextLength),
  };
}

/**
 * Returns the options for dropout. Published models drop attention weights alone; a model that heed saved says in an entry
 * of its own what else is dropped.
 */
function dropoutOf(config: Entries): Pick<LlamaConfig, "dropout" | "attentionDropout"> {
  const dropout = numberOf(config, "heed_dropout", 0);
  const attentionDropout = numberOf(config, "attention_dropout", 0);
  return { dropout, ...(attentionDropout !== dropout && { attentionDropout }) };
}

/**
 * Returns the options for norms and biases. If all models of a family have a bias, or none has, the configuration is
 * not asked.
 */
function partsOf(config: Entries, family: Family): Partial<LlamaConfig> {
  const biased = (name: string): boolean => booleanOf(config, name, false);
  switch (family) {
    case "llama": {
      const bias = biased("attention_bias");
      return { attentionBias: bias, outputBias: bias, feedForwardBias: biased("mlp_bias") };
    }
    case "mistral":
      return {};
    case "qwen2":
      return { attentionBias: true };
    case "qwen3": {
      const bias = biased("attention_bias");
      return { qkNorm: true, attentionBias: bias, outputBias: bias };
    }
  }
}

/** Names of the layer types in `layer_types`. */
const layerTypes: Record<LayerType, string> = { sliding: "sliding_attention", full: "full_attention" };

/**
 * Returns the window and the layers that have it. A Llama has no window, whatever its file says, and in a Mistral all
 * layers have it. In a Qwen with `use_sliding_window`, the layers listed in `layer_types` have it, or those from
 * `max_window_layers` on.
 */
function windowOf(config: Entries, family: Family, layers: number): Pick<LlamaConfig, "window" | "layerTypes"> {
  if (family === "llama") return {};
  // A missing entry means 4096 tokens, null means no window.
  const { sliding_window: said = 4096 } = config;
  const window = said === null ? 0 : positiveInteger({ sliding_window: said }, "sliding_window");
  if (family === "mistral") return { window };
  const used = booleanOf(config, "use_sliding_window", false) ? window : 0;
  const types = typesOf(config, layers, used);
  if (used === 0 && types.includes("sliding"))
    throw new HeedError(
      "ERR_FORMAT",
      "config: expected use_sliding_window and a sliding_window for layer_types with sliding_attention, got none",
    );
  if (!types.includes("sliding")) return {};
  return { window: used, layerTypes: types.includes("full") ? types : null };
}

function typesOf(config: Entries, layers: number, window: number): LayerType[] {
  const { layer_types: listed } = config;
  if (listed == null) {
    const first = numberOf(config, "max_window_layers", 28);
    return Array.from({ length: layers }, (_, layer) => (window > 0 && layer >= first ? "sliding" : "full"));
  }
  const list = Array.isArray(listed) ? listed : [];
  const types = list.map((name) => (Object.keys(layerTypes) as LayerType[]).find((type) => layerTypes[type] === name));
  if (types.length === layers && types.every((type) => type !== undefined)) return types;
  throw new HeedError(
    "ERR_FORMAT",
    `config: expected layer_types to be ${layers} times ${Object.values(layerTypes).join(" or ")}, got ${describe(listed)}`,
  );
}

/**
 * Returns the config.json of a Llama, for Hugging Face's tools. The model type is that of the family whose layers have
 * these options. The file cannot express that rotary positions rotate neighbouring dimensions (`interleaved`): the rows
 * of queries and keys must then be reordered into halves, as `savePretrained` does.
 *
 * @example
 * const llama = new Llama({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16, feedForwardWidth: 64 });
 * const json = toHuggingFaceLlamaConfig(llama.config); // { model_type: "llama", vocab_size: 256, … }
 *
 * @throws ERR_ARGUMENT if no family has these options together.
 */
export function toHuggingFaceLlamaConfig(config: Required<LlamaConfig>): Record<string, unknown> {
  const { attentionBias, outputBias, feedForwardBias, window, headSize, dropout } = config;
  const type = typeOf(config);
  return {
    architectures: [families[type].class],
    model_type: type,
    vocab_size: config.vocabularySize,
    max_position_embeddings: config.contextLength,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    hidden_size: config.width,
    head_dim: headSize,
    intermediate_size: config.feedForwardWidth,
    hidden_act: nameOfActivation(config.activation),
    rms_norm_eps: config.eps,
    attention_dropout: config.attentionDropout ?? dropout,
    ...(dropout > 0 && { heed_dropout: dropout }),
    tie_word_embeddings: config.tied,
    ...toRotaryEntries(config),
    ...(type === "llama" && { attention_bias: outputBias, mlp_bias: feedForwardBias }),
    ...(type === "qwen3" && { attention_bias: attentionBias }),
    ...(type === "mistral" && { sliding_window: window }),
    ...(type.startsWith("qwen") && slidingEntries(config)),
  };
}

/** Returns the entries for the window of a Qwen. `max_window_layers` is for readers that do not know `layer_types`. */
function slidingEntries(config: Required<LlamaConfig>): Record<string, unknown> {
  const windows = windowsOf(config);
  const first = windows.findIndex((window) => window > 0);
  if (first < 0) return { use_sliding_window: false };
  return {
    use_sliding_window: true,
    sliding_window: config.window,
    max_window_layers: first,
    layer_types: windows.map((window) => layerTypes[window > 0 ? "sliding" : "full"]),
  };
}

/** Returns the model type whose layers have exactly these options. */
function typeOf(config: Required<LlamaConfig>): Family {
  const { qkNorm, attentionBias, outputBias, feedForwardBias } = config;
  const windows = windowsOf(config);
  const window = windows.some((window) => window > 0);
  const layerTypes = new Set(windows).size > 1;
  if (qkNorm && attentionBias === outputBias && !feedForwardBias) return "qwen3";
  if (!qkNorm && attentionBias && !outputBias && !feedForwardBias) return "qwen2";
  if (!qkNorm && attentionBias === outputBias && !window) return "llama";
  if (!qkNorm && !attentionBias && !outputBias && !feedForwardBias && !layerTypes) return "mistral";
  const entries = { qkNorm, attentionBias, outputBias, feedForwardBias, window, layerTypes };
  const given = Object.entries(entries).filter(([, on]) => on);
  throw new HeedError(
    "ERR_ARGUMENT",
    `config: expected the options of a Llama, Mistral, Qwen 2 or Qwen 3, got ${given.map(([name]) => name).join(", ")} together`,
  );
}
