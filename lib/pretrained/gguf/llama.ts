import { HeedError } from "../../errors.js";
import type { GgufFile } from "../../formats/gguf.js";
import type { GgufInputValue } from "../../formats/write-gguf.js";
import { checkLlamaConfig, type LlamaConfig } from "../../models/llama-config.js";
import { Llama } from "../../models/llama.js";
import { halvesToNeighbours, neighboursToHalves } from "../../models/rotary-pairs.js";
import { rotaryFrequencies, type RotaryScaling } from "../../ops/rotary-table.js";
import type { GgufArchitecture, GgufOutput } from "./architecture.js";
import type { GgufMetadata } from "./metadata.js";

/** Modules of a layer by the file's names. */
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

/** By what the angles of rotary positions are divided. */
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

async function configOf(metadata: GgufMetadata, file: GgufFile): Promise<LlamaConfig> {
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
    hidden: metadata.size("feed_forward_length"),
    eps: metadata.number("attention.layer_norm_rms_epsilon"),
    tied: !has("output.weight"),
    attentionBias: has("blk.0.attn_q.bias"),
    outputBias: has("blk.0.attn_output.bias"),
    feedForwardBias: has("blk.0.ffn_gate.bias"),
    qkNorm: has("blk.0.attn_q_norm.weight"),
    window: metadata.number("attention.sliding_window", 0),
    rotaryBase: metadata.number("rope.freq_base", 10_000),
    rotarySize,
    rotaryScaling: has(factorsTensor)
      ? { type: "factors", factors: Array.from(await file.readFloats(factorsTensor)) }
      : scalingOf(metadata, contextLength),
    // llama.cpp turns neighbours in this architecture, and its converters have put the rows in that order.
    interleaved: metadata.architecture === "llama",
  };
}

function scalingOf(metadata: GgufMetadata, contextLength: number): RotaryScaling | null {
  const type = metadata.text("rope.scaling.type") ?? "none";
  if (type === "none") return null;
  const factor = metadata.number("rope.scaling.factor", 1);
  if (type === "linear") return { type, factor };
  const originalLength = metadata.size("rope.scaling.original_context_length", contextLength);
  if (type === "yarn") return { type, factor, originalLength };
  throw metadata.fault(`${metadata.architecture}.rope.scaling.type`, "none, linear or yarn", type);
}

/** The architecture by which llama.cpp computes what the configuration says. */
function architectureOf(config: Required<LlamaConfig>): string {
  if (config.qkNorm) return "qwen3";
  const { attentionBias, outputBias, feedForwardBias } = config;
  return attentionBias && !outputBias && !feedForwardBias ? "qwen2" : "llama";
}

function outputOf(config: Required<LlamaConfig>): GgufOutput {
  const { heads, kvHeads, headSize, rotarySize, activation, rotaryBase, window, interleaved } = config;
  if (activation !== "silu")
    throw new HeedError("ERR_ARGUMENT", `gguf: expected a Llama with activation silu, got ${activation}`);
  const architecture = architectureOf(config);
  const size = (value: number): GgufInputValue => ({ type: "u32", value });
  const number = (value: number): GgufInputValue => ({ type: "f32", value });
  const metadata = new Map<string, GgufInputValue>([
    ["vocab_size", size(config.vocabularySize)],
    ["context_length", size(config.contextLength)],
    ["embedding_length", size(config.width)],
    ["block_count", size(config.layers)],
    ["feed_forward_length", size(config.hidden)],
    ["attention.head_count", size(heads)],
    ["attention.head_count_kv", size(kvHeads)],
    ["attention.key_length", size(headSize)],
    ["attention.value_length", size(headSize)],
    ["attention.layer_norm_rms_epsilon", number(config.eps)],
    ["rope.dimension_count", size(rotarySize)],
    ["rope.freq_base", number(rotaryBase)],
    ...(window > 0 ? [["attention.sliding_window", size(window)] as const] : []),
  ]);
  const factors = addScaling(metadata, config);
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
      // The norms of queries and keys are those of one head.
      return reorder(values, { heads: parameter.includes("_norm.") ? 1 : count, headSize, rotarySize });
    },
  };
}

/** Writes down how positions are scaled; gives the factors of the angles where these are the only way to say it. */
function addScaling(metadata: Map<string, GgufInputValue>, config: Required<LlamaConfig>): Float32Array | null {
  const { rotaryScaling: scaling, rotarySize: size, rotaryBase: base, contextLength: length } = config;
  if (!scaling) return null;
  const { type } = scaling;
  if (type === "linear" || type === "yarn") {
    if (type === "yarn" && (scaling.betaFast ?? scaling.betaSlow ?? scaling.attentionFactor) !== undefined)
      throw new HeedError("ERR_ARGUMENT", "gguf: expected YaRN with its usual betas and attention factor, got others");
    metadata.set("rope.scaling.type", { type: "string", value: type });
    metadata.set("rope.scaling.factor", { type: "f32", value: scaling.factor });
    if (type === "yarn")
      metadata.set("rope.scaling.original_context_length", { type: "u32", value: scaling.originalLength });
    return null;
  }
  const plain = rotaryFrequencies({ size, length, base }).frequencies;
  const scaled = rotaryFrequencies({ size, length, base, scaling }).frequencies;
  return Float32Array.from(plain, (angle, i) => angle / scaled[i]!);
}
