// Llama, Qwen 2 and Qwen 3 in GGUF files: the keys of their sizes, the names of their tensors, and how llama.cpp
// interprets them. In the architecture llama it rotates pairs of neighbouring dimensions, in the others pairs of
// halves; when a model is saved, the rows of queries and keys are reordered accordingly.
import { HeedError } from "../../util/errors.js";
import type { GgufWeights } from "../../formats/gguf-parts.js";
import type { GgufInputValue } from "../../formats/write-gguf.js";
import { checkLlamaConfig, type LlamaConfig, windowsOf } from "../../models/llama-config.js";
import { Llama } from "../../models/llama.js";
import { halvesToNeighbours, neighboursToHalves } from "../../models/rotary-pairs.js";
import { rotaryFrequencies, type RotaryScaling, stretchedBase } from "../../ops/rotary-table.js";
import type { GgufArchitecture, GgufOutput } from "../gguf/architecture.js";
import type { GgufMetadata } from "../gguf/metadata.js";

/** Modules of a layer, with their names in the file. */
const layerNames: Record<string, string> = {
  input_layernorm: "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "self_attn.q_norm": "attn_q_norm",
  "self_attn.k_norm": "attn_k_norm",
  post_attention_layernorm: "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

const otherNames: Record<string, string> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

/** Tensor of the factors by which the angles of rotary positions are divided. */
const factorsTensor = "rope_freqs.weight";

export const llamaArchitecture: GgufArchitecture<Llama> = {
  names: ["llama", "qwen2", "qwen3"],
  ignored: [factorsTensor],

  async read(metadata, file) {
    const config = checkLlamaConfig(await configOf(metadata, file));
    return (options) => new Llama(config, options);
  },

  parameter(name) {
    const [, layer, module, kind] = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
    return { name: layer === undefined ? otherNames[name]! : `blk.${layer}.${layerNames[module!]}.${kind}` };
  },

  owns: (model) => model instanceof Llama,

  write: ({ config }) => outputOf(config),
};

/**
 * Returns the configuration of the model in a file. It has no window, because llama.cpp has none in these
 * architectures, whatever the file says.
 */
async function configOf(metadata: GgufMetadata, file: GgufWeights): Promise<LlamaConfig> {
  const has = (name: string): boolean => file.tensors.has(name);
  const heads = metadata.size("attention.head_count");
  const width = metadata.size("embedding_length");
  const headSize = metadata.size("attention.key_length", width / heads);
  const values = metadata.size("attention.value_length", headSize);
  if (values !== headSize) throw metadata.fault("attention.value_length", `the key_length, ${headSize}`, values);
  const contextLength = metadata.size("context_length");
  const rotarySize = metadata.size("rope.dimension_count", headSize);
  return {
    vocabularySize: file.tensors.get("token_embd.weight")?.shape[0] ?? 1,
    contextLength,
    layers: metadata.size("block_count"),
    heads,
    kvHeads: metadata.size("attention.head_count_kv", heads),
    width,
    headSize,
    feedForwardWidth: metadata.size("feed_forward_length"),
    eps: metadata.number("attention.layer_norm_rms_epsilon"),
    tied: !has("output.weight"),
    attentionBias: has("blk.0.attn_q.bias"),
    outputBias: has("blk.0.attn_output.bias"),
    feedForwardBias: has("blk.0.ffn_gate.bias"),
    qkNorm: has("blk.0.attn_q_norm.weight"),
    rotaryBase: metadata.number("rope.freq_base", 10_000),
    rotarySize,
    rotaryScaling: has(factorsTensor)
      ? { type: "factors", factors: Array.from(await file.readFloats(factorsTensor)) }
      : scalingOf(metadata, contextLength),
    // llama.cpp rotates neighbouring dimensions in this architecture, and its converters have ordered the rows
    // accordingly.
    interleaved: metadata.architecture === "llama",
  };
}

/** Returns the scaling of rotary positions by llama.cpp's rules: a factor without a type means linear scaling. */
function scalingOf(metadata: GgufMetadata, contextLength: number): RotaryScaling | null {
  const attention = metadata.number("rope.scaling.attn_factor", 1);
  if (attention !== 1) throw metadata.fault(`${metadata.architecture}.rope.scaling.attn_factor`, "1", attention);
  const type = metadata.text("rope.scaling.type") ?? "linear";
  if (type === "none") return null;
  // Older files use the second name. 0 means no scaling.
  const factor = metadata.number("rope.scaling.factor", metadata.number("rope.scale_linear", 1)) || 1;
  if (type === "linear") return factor === 1 ? null : { type, factor };
  const originalLength = metadata.size("rope.scaling.original_context_length", contextLength);
  if (type !== "yarn") throw metadata.fault(`${metadata.architecture}.rope.scaling.type`, "none, linear or yarn", type);
  for (const [name, usual] of usualYarn) {
    const value = metadata.number(`rope.scaling.${name}`, usual);
    if (value !== usual) throw metadata.fault(`${metadata.architecture}.rope.scaling.${name}`, `${usual}`, value);
  }
  return { type, factor, originalLength };
}

/** Options of YaRN that some versions of llama.cpp ignore, with the values that these versions assume. */
const usualYarn = [
  ["yarn_log_multiplier", 0],
  ["yarn_ext_factor", 1],
  ["yarn_attn_factor", 1],
  ["yarn_beta_fast", 32],
  ["yarn_beta_slow", 1],
] as const;

function expected(what: string, given: string | number): HeedError {
  return new HeedError("ERR_ARGUMENT", `gguf: expected a Llama with ${what}, got ${given}`);
}

/**
 * Returns the architecture under which llama.cpp computes what the configuration describes.
 *
 * @throws ERR_ARGUMENT if there is none.
 */
function architectureOf(config: Required<LlamaConfig>, factors: Float32Array | null): "llama" | "qwen2" | "qwen3" {
  const { activation, rotarySize, headSize, heads, width, contextLength } = config;
  const { qkNorm, attentionBias, outputBias, feedForwardBias } = config;
  if (activation !== "silu") throw expected("activation silu", activation);
  // In these architectures, llama.cpp ignores a window, and it rejects heads that are rotated only in part.
  const window = windowsOf(config).find((window) => window > 0 && window < contextLength);
  if (window !== undefined) throw expected("window 0", window);
  if (rotarySize !== headSize) throw expected(`rotarySize equal to the size of its heads (${headSize})`, rotarySize);
  if (qkNorm) {
    if (attentionBias || outputBias || feedForwardBias) throw expected("no biases if it has qkNorm", "some");
    if (factors) throw expected("rotaryScaling linear or yarn if it has qkNorm", config.rotaryScaling!.type);
    return "qwen3";
  }
  const qwen2 = attentionBias && !outputBias && !feedForwardBias && heads * headSize === width && !factors;
  // In the architecture llama, each bias is optional.
  return qwen2 ? "qwen2" : "llama";
}

function outputOf(config: Required<LlamaConfig>): GgufOutput {
  const { heads, kvHeads, headSize, rotarySize, rotaryBase, rotaryScaling, contextLength, interleaved } = config;
  const factors = factorsOf(config);
  const architecture = architectureOf(config, factors);
  const positions = { size: rotarySize, length: contextLength, base: rotaryBase, scaling: rotaryScaling };
  const size = (value: number): GgufInputValue => ({ type: "u32", value });
  const number = (value: number): GgufInputValue => ({ type: "f32", value });
  const metadata = new Map<string, GgufInputValue>([
    ["vocab_size", size(config.vocabularySize)],
    ["context_length", size(config.contextLength)],
    ["embedding_length", size(config.width)],
    ["block_count", size(config.layers)],
    ["feed_forward_length", size(config.feedForwardWidth)],
    ["attention.head_count", size(heads)],
    ["attention.head_count_kv", size(kvHeads)],
    ["attention.key_length", size(headSize)],
    ["attention.value_length", size(headSize)],
    ["attention.layer_norm_rms_epsilon", number(config.eps)],
    ["rope.dimension_count", size(rotarySize)],
    ["rope.freq_base", number(stretchedBase(positions) ?? rotaryBase)],
    ...scalingEntries(rotaryScaling),
  ]);
  const neighbours = architecture === "llama";
  const rows = (parameter: string): number | null =>
    /\.q_(proj|norm)\./.test(parameter) ? heads : /\.k_(proj|norm)\./.test(parameter) ? kvHeads : null;
  return {
    architecture,
    metadata,
    ...(factors && { tensors: [{ name: factorsTensor, values: factors }] }),
    values(parameter, values) {
      const count = rows(parameter);
      if (count === null || interleaved === neighbours) return values;
      const reorder = neighbours ? halvesToNeighbours : neighboursToHalves;
      // The norms of queries and keys have the size of one head.
      return reorder(values, { heads: parameter.includes("_norm.") ? 1 : count, headSize, rotarySize });
    },
  };
}

/**
 * Returns the metadata of a linear or YaRN scaling, and nothing for other scalings.
 *
 * @throws ERR_ARGUMENT if a YaRN scaling has options that llama.cpp does not read.
 */
function scalingEntries(scaling: RotaryScaling | null): [string, GgufInputValue][] {
  if (scaling?.type !== "linear" && scaling?.type !== "yarn") return [];
  const { type, factor } = scaling;
  const entries: [string, GgufInputValue][] = [
    ["rope.scaling.type", { type: "string", value: type }],
    ["rope.scaling.factor", { type: "f32", value: factor }],
  ];
  if (type === "linear") return entries;
  const { originalLength, betaFast = 32, betaSlow = 1, truncate = true } = scaling;
  const usual = 0.1 * Math.log(factor) + 1;
  const { attentionFactor = usual } = scaling;
  if (betaFast !== 32 || betaSlow !== 1 || !truncate || attentionFactor !== usual)
    throw expected("YaRN's default betas, attentionFactor and truncate", "other values");
  // In shorter texts no pair of dimensions completes a turn; llama.cpp then computes another ramp than YaRN's authors.
  if (originalLength < 2 * Math.PI) throw expected("YaRN's originalLength of at least 7", originalLength);
  return [...entries, ["rope.scaling.original_context_length", { type: "u32", value: originalLength }]];
}

/** Returns the factors of the angles if only they can express the scaling, otherwise null. */
function factorsOf(config: Required<LlamaConfig>): Float32Array | null {
  const { rotaryScaling: scaling, rotarySize: size, rotaryBase: base, contextLength: length } = config;
  if (scaling?.type !== "llama3" && scaling?.type !== "factors") return null;
  const plain = rotaryFrequencies({ size, length, base }).frequencies;
  const scaled = rotaryFrequencies({ size, length, base, scaling }).frequencies;
  return Float32Array.from(plain, (angle, i) => angle / scaled[i]!);
}
