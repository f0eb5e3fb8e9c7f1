import { HeedError } from "../errors.js";
import { type Activation, activations } from "../ops/activation.js";
import { checkInteger, checkNumber, describe } from "../ops/check.js";

/** The size and options of a GPT. */
export interface GptConfig {
  /** V */
  vocabularySize: number;
  /** The longest sequence. */
  contextLength: number;
  layers: number;
  heads: number;
  /** C, a multiple of heads. */
  width: number;
  /** Of embeddings, attention weights and residual branches; 0 unless given. */
  dropout?: number;
  /** Biases in linear layers and layer norms; true unless given. */
  bias?: boolean;
  /** "gelu" (GPT-2's tanh form) unless given. */
  activation?: Activation;
  /** Of the layer norms; 1e-5 unless given. */
  eps?: number;
}

/** The published sizes (Radford et al. 2019). */
export const gpt2Sizes = {
  gpt2: { layers: 12, heads: 12, width: 768 },
  "gpt2-medium": { layers: 24, heads: 16, width: 1024 },
  "gpt2-large": { layers: 36, heads: 20, width: 1280 },
  "gpt2-xl": { layers: 48, heads: 25, width: 1600 },
} as const;

/** Every option filled in and checked. Throws ERR_RANGE, ERR_SHAPE or ERR_ARGUMENT. */
export function checkGptConfig(config: GptConfig): Required<GptConfig> {
  if (typeof config !== "object" || config === null)
    throw new HeedError("ERR_ARGUMENT", `GPT: expected a configuration object, got ${describe(config)}`);
  const full = { dropout: 0, bias: true, activation: "gelu" as const, eps: 1e-5, ...config };
  for (const name of ["vocabularySize", "contextLength", "layers", "heads", "width"] as const)
    checkInteger("GPT", name, full[name], 1, 2 ** 31 - 1);
  checkNumber("GPT", "dropout", full.dropout, 0, 1);
  checkNumber("GPT", "eps", full.eps, 0);
  if (full.width % full.heads !== 0)
    throw new HeedError("ERR_SHAPE", `GPT: expected width to be a multiple of ${full.heads} heads, got ${full.width}`);
  if (!activations.includes(full.activation))
    throw new HeedError(
      "ERR_ARGUMENT",
      `GPT: expected activation ${activations.join(", ")}, got ${describe(full.activation)}`,
    );
  return full;
}

/** Our activations by Hugging Face's names. */
const huggingFaceActivations: Record<string, Activation> = {
  gelu_new: "gelu",
  gelu_pytorch_tanh: "gelu",
  gelu: "geluErf",
  relu: "relu",
};

/** The config.json of a Hugging Face GPT-2 folder. */
export function toHuggingFaceConfig(config: Required<GptConfig>): Record<string, unknown> {
  const activation = Object.entries(huggingFaceActivations).find(([, ours]) => ours === config.activation)?.[0];
  return {
    model_type: "gpt2",
    architectures: ["GPT2LMHeadModel"],
    vocab_size: config.vocabularySize,
    n_positions: config.contextLength,
    n_layer: config.layers,
    n_head: config.heads,
    n_embd: config.width,
    activation_function: activation ?? config.activation,
    layer_norm_epsilon: config.eps,
    embd_pdrop: config.dropout,
    attn_pdrop: config.dropout,
    resid_pdrop: config.dropout,
    tie_word_embeddings: true,
    heed_bias: config.bias,
  };
}

/** Reads a Hugging Face GPT-2 config.json. Throws ERR_FORMAT for what it does not understand. */
export function fromHuggingFaceConfig(json: unknown): GptConfig {
  if (typeof json !== "object" || json === null || (json as { model_type?: unknown }).model_type !== "gpt2")
    throw new HeedError("ERR_FORMAT", 'config: expected "model_type": "gpt2"');
  const config = json as Record<string, unknown>;
  const integer = (name: string): number => {
    const value = config[name];
    if (!Number.isSafeInteger(value) || (value as number) < 1)
      throw new HeedError("ERR_FORMAT", `config: expected ${name} to be a positive integer, got ${describe(value)}`);
    return value as number;
  };
  const activation = config.activation_function ?? "gelu_new";
  const known = typeof activation === "string" && Object.hasOwn(huggingFaceActivations, activation);
  if (!known && activation !== "none")
    throw new HeedError("ERR_FORMAT", `config: unknown activation_function ${describe(activation)}`);
  if (config.tie_word_embeddings === false)
    throw new HeedError("ERR_FORMAT", "config: expected tied embeddings (tie_word_embeddings)");
  return {
    vocabularySize: integer("vocab_size"),
    contextLength: integer("n_positions"),
    layers: integer("n_layer"),
    heads: integer("n_head"),
    width: integer("n_embd"),
    activation: known ? huggingFaceActivations[activation]! : "none",
    eps: typeof config.layer_norm_epsilon === "number" ? config.layer_norm_epsilon : 1e-5,
    dropout: typeof config.resid_pdrop === "number" ? config.resid_pdrop : 0,
    bias: config.heed_bias !== false,
  };
}
