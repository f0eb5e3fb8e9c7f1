// The config.json files of Hugging Face's Llama, Mistral, Qwen 2 and Qwen 3, there and back.
import { mostLayers } from "../../check.js";
import { describe, HeedError } from "../../errors.js";
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

/** What the members of the family have where their config.json does not say: by transformers' configurations. */
const families: Record<Family, { class: string; kvHeads?: number; headSize?: number }> = {
  llama: { class: "LlamaForCausalLM" },
  mistral: { class: "MistralForCausalLM", kvHeads: 8 },
  qwen2: { class: "Qwen2ForCausalLM", kvHeads: 32 },
  qwen3: { class: "Qwen3ForCausalLM", kvHeads: 32, headSize: 128 },
};

/** The model types that `fromHuggingFaceLlamaConfig` reads. */
export const llamaTypes: readonly string[] = Object.keys(families);

/** Reads the config.json of a Llama, Mistral, Qwen 2 or Qwen 3. Throws ERR_FORMAT for what it does not understand. */
export function fromHuggingFaceLlamaConfig(json: unknown): LlamaConfig {
  const config = configOf(json, llamaTypes);
  const family = config.model_type as Family;
  const usual = families[family];
  const integer = (name: string): number => positiveInteger(config, name);
  /** Nothing said is the family's own number, null another. */
  const optional = (name: string, missing: number, none: number): number =>
    config[name] === undefined ? missing : config[name] === null ? none : integer(name);
  const [width, heads] = [integer("hidden_size"), integer("num_attention_heads")];
  // The list of their types is made below.
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
    hidden: integer("intermediate_size"),
    dropout: numberOf(config, "attention_dropout", 0),
    eps: numberOf(config, "rms_norm_eps", 1e-6),
    tied: booleanOf(config, "tie_word_embeddings", false),
    ...partsOf(config, family),
    activation: activationOf(config, "hidden_act", "silu"),
    ...windowOf(config, family, layers),
    ...rotaryOf(config, headSize, contextLength),
  };
}

/** Norms and biases. A family that always has a bias, or never, does not ask its configuration. */
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

/** What `layer_types` calls our types of layer. */
const layerTypes: Record<LayerType, string> = { sliding: "sliding_attention", full: "full_attention" };

/**
 * A Llama has no window, whatever its file says; all layers of a Mistral have it. A Qwen has one where it says so, in
 * the layers of `layer_types`, or from the layer `max_window_layers` on.
 */
function windowOf(config: Entries, family: Family, layers: number): Pick<LlamaConfig, "window" | "layerTypes"> {
  if (family === "llama") return {};
  // Nothing said is 4096 tokens, null no window.
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
    `config: expected layer_types of ${layers} times ${Object.values(layerTypes).join(" or ")}, got ${describe(listed)}`,
  );
}

/**
 * The config.json of a Llama, by the model type whose layers are these. Throws ERR_ARGUMENT where there is none. Pairs of
 * neighbours have no place in it: rows of queries and keys are to be put in the order of halves.
 */
export function toHuggingFaceLlamaConfig(config: Required<LlamaConfig>): Record<string, unknown> {
  const { attentionBias, outputBias, feedForwardBias, window, headSize } = config;
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
    intermediate_size: config.hidden,
    hidden_act: nameOfActivation(config.activation),
    rms_norm_eps: config.eps,
    attention_dropout: config.dropout,
    tie_word_embeddings: config.tied,
    ...toRotaryEntries(config),
    ...(type === "llama" && { attention_bias: outputBias, mlp_bias: feedForwardBias }),
    ...(type === "qwen3" && { attention_bias: attentionBias }),
    ...(type === "mistral" && { sliding_window: window }),
    ...(type.startsWith("qwen") && slidingEntries(config)),
  };
}

/** Where a Qwen has its window: by `max_window_layers` for readers that know no `layer_types`. */
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

/** The model type that has these layers, and no others. */
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
    `config: expected layers of a Llama, Mistral, Qwen 2 or Qwen 3, got ${given.map(([name]) => name).join(", ")} together`,
  );
}
