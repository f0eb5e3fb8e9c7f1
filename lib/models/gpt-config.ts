import { HeedError } from "../util/errors.js";
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

/** Kind of position information in a GPT; see `GptConfig.positions`. */
export type Positions = (typeof positionings)[number];

/** Size and options of a GPT. */
export interface GptConfig {
  /** V, the number of tokens in the vocabulary. */
  vocabularySize: number;
  /** Length of the longest sequence, in tokens. */
  contextLength: number;
  /** Number of blocks. */
  layers: number;
  /** H, the number of attention heads. */
  heads: number;
  /** C, the width of a token's state; a multiple of `heads`. */
  width: number;
  /**
   * Number of heads of keys and values, a divisor of `heads`: each serves a group of query heads (Ainslie et al. 2023).
   * @default heads
   */
  kvHeads?: number;
  /** Width between the feed-forward layers. @default 4·width */
  feedForwardWidth?: number;
  /** Dropout probability of embeddings, attention weights and residual branches without one of their own. @default 0 */
  dropout?: number;
  /** Dropout probability of the sum of embeddings (GPT-2's embd_pdrop). @default dropout */
  embeddingDropout?: number | undefined;
  /** Dropout probability of attention weights (GPT-2's attn_pdrop). @default dropout */
  attentionDropout?: number | undefined;
  /** Dropout probability of what each part of a block adds to the residual stream (GPT-2's resid_pdrop). @default dropout */
  residualDropout?: number | undefined;
  /** True if linear layers and layer norms have biases. @default true */
  bias?: boolean;
  /**
   * Kind of position information: "learned" is GPT-2's table; "sinusoidal" adds sinusoids (Vaswani et al. 2017, §3.5);
   * "rotary" rotates queries and keys (Su et al. 2021, halves of a head, base 10,000); "alibi" lowers scores with the
   * distance of tokens (Press et al. 2022); "none" leaves only what the causal mask reveals.
   * @default "learned"
   */
  positions?: Positions;
  /** Number of tokens that a token sees back from itself, itself included. 0 means all of them. @default 0 */
  window?: number;
  /** Cap of attention scores: s becomes softcap · tanh(s / softcap) (Gemma 2). 0 leaves them unchanged. @default 0 */
  softcap?: number;
  /** True if attention scores are divided by the square root of the head size. @default true */
  scaleAttention?: boolean;
  /** True if attention scores in layer i, counted from 0, are divided by i + 1 (Mistral's GPT-2s). @default false */
  scaleAttentionByLayer?: boolean;
  /** True if each head's queries and keys are RMS-normalised (Henry et al. 2020). @default false */
  qkNorm?: boolean;
  /** Activation of the feed-forward layers. @default "gelu" (GPT-2's tanh form); "silu" if gated */
  activation?: Activation;
  /**
   * True if the first feed-forward layer is twice as wide and one half of it, after the activation, multiplies the
   * other (Shazeer 2020).
   * @default false
   */
  gated?: boolean;
  /** Kind of the norms: "layer" norms or "rms" norms (Zhang & Sennrich 2019). @default "layer" */
  normalization?: Normalization;
  /** Epsilon that every norm adds to the variance or mean square. @default 1e-5 */
  eps?: number;
  /** True if the token embedding is also the output projection (Press & Wolf 2017). @default true */
  tied?: boolean;
  /** Factor of the token embeddings; √width in Vaswani et al. 2017. @default 1 */
  embeddingScale?: number;
  /** Factor of what each part of a block adds to the residual stream. @default 1 */
  residualScale?: number;
}

/** Sizes of the published GPT-2 models (Radford et al. 2019). */
export const gpt2Sizes = {
  gpt2: { layers: 12, heads: 12, width: 768 },
  "gpt2-medium": { layers: 24, heads: 16, width: 1024 },
  "gpt2-large": { layers: 36, heads: 20, width: 1280 },
  "gpt2-xl": { layers: 48, heads: 25, width: 1600 },
} as const;

/** Defaults of a GPT's configuration that do not depend on its other options. */
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

/**
 * Returns the configuration with every default filled in, after checking it.
 *
 * @throws ERR_RANGE if a number is out of range.
 * @throws ERR_SHAPE if sizes do not fit together.
 * @throws ERR_ARGUMENT if an option has the wrong type or an unknown value.
 */
export function checkGptConfig(config: GptConfig): Required<GptConfig> {
  if (typeof config !== "object" || config === null)
    throw new HeedError("ERR_ARGUMENT", `GPT: expected a configuration object, got ${describe(config)}`);
  const most = 2 ** 31 - 1;
  for (const name of ["vocabularySize", "contextLength", "heads", "width"] as const)
    checkInteger("GPT", name, config[name], 1, most);
  checkInteger("GPT", "layers", config.layers, 1, mostLayers);
  const { heads: kvHeads, width, gated = false } = config;
  const activation = gated ? "silu" : "gelu";
  const full = { ...gptDefaults, kvHeads, feedForwardWidth: 4 * width, activation, ...config } as Required<GptConfig>;
  for (const name of ["kvHeads", "feedForwardWidth"] as const) checkInteger("GPT", name, full[name], 1, most);
  checkNumber("GPT", "dropout", full.dropout, 0, 1);
  for (const [name, value] of Object.entries(dropoutsOf(full))) checkNumber("GPT", name, value, 0, 1);
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

/** Returns the dropout probability of each place in a GPT. */
export function dropoutsOf({
  dropout,
  embeddingDropout = dropout,
  attentionDropout = dropout,
  residualDropout = dropout,
}: Required<GptConfig>): Record<"embeddingDropout" | "attentionDropout" | "residualDropout", number> {
  return { embeddingDropout, attentionDropout, residualDropout };
}
