import { HeedError } from "../errors.js";
import { type Activation, activationIndex } from "../ops/activation.js";
import {
  checkBoolean,
  checkChoice,
  checkInteger,
  checkNumber,
  describe,
  largestFloat,
  mostLayers,
} from "../ops/check.js";
import { type Normalization, normalizations } from "../nn/transformer-block.js";

const positionings = ["learned", "sinusoidal", "rotary", "alibi", "none"] as const;

/** How a model knows where a token stands. */
export type Positions = (typeof positionings)[number];

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
  /** Heads of keys and values, a divisor of heads: each serves a group of them (Ainslie et al. 2023); heads unless given. */
  kvHeads?: number;
  /** Width between the feed-forward's layers; 4·width unless given. */
  hidden?: number;
  /** Of embeddings, attention weights and residual branches; 0 unless given. */
  dropout?: number;
  /** Biases in linear layers and layer norms; true unless given. */
  bias?: boolean;
  /**
   * "learned" (GPT-2's table) unless given; "sinusoidal" (Vaswani et al. 2017, §3.5); "rotary" (Su et al. 2021, halves of
   * a head, base 10,000); "alibi" (Press et al. 2022): scores fall with the distance of tokens; "none": what the causal
   * mask tells.
   */
  positions?: Positions;
  /** A token sees the last `window` tokens, itself included; 0, all of them, unless given. */
  window?: number;
  /** Attention's scores become softcap · tanh(score / softcap) (Gemma 2); 0, as they are, unless given. */
  softcap?: number;
  /** Whether attention's scores are divided by the root of a head's size. @default true */
  scaleAttention?: boolean;
  /** Whether attention's scores in layer i, counted from 0, are divided by i + 1 (Mistral's GPT-2s). @default false */
  scaleAttentionByLayer?: boolean;
  /** Scores are of queries and keys that an RMS norm of each head went over (Henry et al. 2020); false unless given. */
  qkNorm?: boolean;
  /** "gelu" (GPT-2's tanh form) unless given; where gated, "silu". */
  activation?: Activation;
  /** The feed-forward's first layer is twice as wide, and one half gates the other (Shazeer 2020); false unless given. */
  gated?: boolean;
  /** "layer" norms unless given, or "rms" (Zhang & Sennrich 2019). */
  normalization?: Normalization;
  /** Of the norms; 1e-5 unless given. */
  eps?: number;
  /** Whether the token embedding is the output projection as well (Press & Wolf 2017); true unless given. */
  tied?: boolean;
  /** Factor of the token embeddings, √width in Vaswani et al. 2017; 1 unless given. */
  embeddingScale?: number;
  /** Factor of what each part of a block adds to the residual stream; 1 unless given. */
  residualScale?: number;
}

/** The published sizes (Radford et al. 2019). */
export const gpt2Sizes = {
  gpt2: { layers: 12, heads: 12, width: 768 },
  "gpt2-medium": { layers: 24, heads: 16, width: 1024 },
  "gpt2-large": { layers: 36, heads: 20, width: 1280 },
  "gpt2-xl": { layers: 48, heads: 25, width: 1600 },
} as const;

/** Defaults of a GPT's configuration. */
export const gptDefaults = {
  dropout: 0,
  bias: true,
  positions: "learned",
  window: 0,
  softcap: 0,
  scaleAttention: true,
  scaleAttentionByLayer: false,
  qkNorm: false,
  gated: false,
  normalization: "layer",
  eps: 1e-5,
  tied: true,
  embeddingScale: 1,
  residualScale: 1,
} as const;

/** Every option filled in and checked. Throws ERR_RANGE, ERR_SHAPE or ERR_ARGUMENT. */
export function checkGptConfig(config: GptConfig): Required<GptConfig> {
  if (typeof config !== "object" || config === null)
    throw new HeedError("ERR_ARGUMENT", `GPT: expected a configuration object, got ${describe(config)}`);
  const most = 2 ** 31 - 1;
  for (const name of ["vocabularySize", "contextLength", "heads", "width"] as const)
    checkInteger("GPT", name, config[name], 1, most);
  checkInteger("GPT", "layers", config.layers, 1, mostLayers);
  const { heads: kvHeads, width, gated = false } = config;
  const activation = gated ? "silu" : "gelu";
  const full = { ...gptDefaults, kvHeads, hidden: 4 * width, activation, ...config } as Required<GptConfig>;
  for (const name of ["kvHeads", "hidden"] as const) checkInteger("GPT", name, full[name], 1, most);
  checkNumber("GPT", "dropout", full.dropout, 0, 1);
  checkNumber("GPT", "eps", full.eps, 0);
  checkInteger("GPT", "window", full.window, 0);
  checkNumber("GPT", "softcap", full.softcap, 0, largestFloat);
  for (const name of ["embeddingScale", "residualScale"] as const)
    checkNumber("GPT", name, full[name], -largestFloat, largestFloat);
  for (const name of ["bias", "scaleAttention", "scaleAttentionByLayer", "qkNorm", "gated", "tied"] as const)
    checkBoolean("GPT", name, full[name]);
  if (full.width % full.heads !== 0)
    throw new HeedError("ERR_SHAPE", `GPT: expected width to be a multiple of ${full.heads} heads, got ${full.width}`);
  if (full.positions === "sinusoidal" && full.width % 2 !== 0)
    throw new HeedError("ERR_SHAPE", `GPT: expected an even width for sinusoidal positions, got ${full.width}`);
  if (full.heads % full.kvHeads !== 0)
    throw new HeedError(
      "ERR_SHAPE",
      `GPT: expected heads to be a multiple of ${full.kvHeads} kvHeads, got ${full.heads}`,
    );
  checkChoice("GPT", "positions", full.positions, positionings);
  checkChoice("GPT", "normalization", full.normalization, normalizations);
  activationIndex("GPT", full.activation);
  return full;
}
