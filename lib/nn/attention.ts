import { HeedError } from "../util/errors.js";
import { alibiSlopes } from "../ops/attention-masks.js";
import { checkFloat, checkInteger, checkNumber, checkShapeIs, largestFloat } from "../ops/check.js";
import { keep } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { type AttentionContext, type AttentionRules, attendPacked } from "./attend.js";
import { type AttentionProjections, packedLayer, wholeLayer } from "./block-parts.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { headSizeOf, type HeadsConfig } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { projectHeads } from "./project-heads.js";
import { RmsNorm } from "./rms-norm.js";

/** Configuration of an `Attention` module. */
export interface AttentionConfig extends Omit<HeadsConfig, "headSize"> {
  /** True if a token does not see the tokens after it. */
  causal: boolean;
  /** True if the projections have biases. @default true */
  bias?: boolean;
  /** Probability of dropping an attention weight in training. @default 0 */
  dropout?: number;
  /**
   * Number of tokens that a token sees back from itself, itself included. Attention that is not causal also sees as
   * many forward. 0 means no limit.
   * @default 0
   */
  window?: number;
  /** Cap of the scores: each score s becomes softcap · tanh(s / softcap). 0 leaves the scores unchanged. @default 0 */
  softcap?: number;
  /** Factor of the scores. @default 1/√D */
  scale?: number;
  /** True if scores fall with the distance, by a fixed slope for each head (Press et al. 2022). @default false */
  alibi?: boolean;
  /**
   * Rotary positions: a table from `rotaryTable`, which several layers may share, and how it pairs the dimensions of a
   * head (neighbours if `interleaved`, else halves).
   * @default null (no rotation)
   */
  rotary?: { table: FloatTensor; interleaved?: boolean } | null;
  /** True if each head's queries and keys are RMS-normalised (Henry et al. 2020, as in Qwen 3). @default false */
  qkNorm?: boolean;
  /** Epsilon that the norms of queries and keys add to the mean square. @default 1e-5 */
  eps?: number;
  /** Order of the projections' weights in memory: [out, in] ("oi") or [in, out] ("io"). @default "oi" */
  layout?: "oi" | "io";
  /** Standard deviation of the initial weights. @default 0.02 */
  std?: number;
  /** Standard deviation of the output projection's initial weights. @default std */
  outputStd?: number;
}

/**
 * Multi-head self-attention (Vaswani et al. 2017, §3.2.2) that computes queries, keys and values with one projection.
 *
 * @example
 * const init = new Initializer(1, device());
 * const attn = new Attention({ width: 16, heads: 4, kvHeads: 2, causal: true }, init, new DropoutSeeds(0));
 * attn.forward(randn([2, 5, 16], { seed: 1 })).shape; // [2, 5, 16]
 *
 * @see https://arxiv.org/abs/1706.03762
 */
export class Attention extends Module implements AttentionRules {
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly dropout: Dropout;
  readonly heads: number;
  readonly kvHeads: number;
  /** Size of a head (D). */
  readonly headSize: number;
  readonly causal: boolean;
  readonly window: number;
  readonly softcap: number;
  readonly scale: number;
  readonly slopes: FloatTensor | null;
  readonly rotaryTable: FloatTensor | null;
  readonly interleaved: boolean;
  readonly q_norm: RmsNorm | null;
  readonly k_norm: RmsNorm | null;

  constructor(config: AttentionConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, heads, causal, bias = true, layout = "oi", std = 0.02, outputStd = std, dropout = 0 } = config;
    const { kvHeads = heads, window = 0, softcap = 0, alibi = false, qkNorm = false, eps = 1e-5 } = config;
    const headSize = headSizeOf("Attention", { width, heads, kvHeads });
    checkInteger("Attention", "window", window, 0);
    checkNumber("Attention", "softcap", softcap, 0, largestFloat);
    this.heads = heads;
    this.headSize = headSize;
    this.kvHeads = kvHeads;
    this.causal = causal;
    this.window = window;
    this.softcap = softcap;
    const { scale = 1 / Math.sqrt(headSize) } = config;
    checkNumber("Attention", "scale", scale, -largestFloat, largestFloat);
    this.scale = scale;
    const outputs = (heads + 2 * kvHeads) * headSize;
    this.c_attn = new Linear({ inputs: width, outputs, bias, std, layout }, init);
    this.c_proj = new Linear({ inputs: width, outputs: width, bias, std: outputStd, layout }, init);
    this.dropout = new Dropout(dropout, seeds);
    this.rotaryTable = config.rotary?.table ?? null;
    this.interleaved = config.rotary?.interleaved ?? false;
    if (this.rotaryTable) checkTable(this.rotaryTable, headSize);
    this.q_norm = qkNorm ? new RmsNorm({ width: headSize, eps }, init) : null;
    this.k_norm = qkNorm ? new RmsNorm({ width: headSize, eps }, init) : null;
    this.slopes = alibi ? keep(alibiSlopes(heads, { device: init.device })) : null;
  }

  /** Projections by role. */
  get projections(): AttentionProjections {
    const { heads, kvHeads, headSize } = this;
    const [q, k, v] = packedLayer(
      this.c_attn,
      [heads, kvHeads, kvHeads].map((count) => count * headSize),
    );
    return { q: q!, k: k!, v: v!, o: wholeLayer(this.c_proj), heads, kvHeads };
  }

  /** Returns the attention's output [B, T, C] for x [B, T, C], plus `residual` [B, T, C] if one is given. */
  forward(x: FloatTensor, context: AttentionContext = {}, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("Attention", "x", x);
    checkShapeIs("Attention", "x", x, [-1, -1, -1]);
    const z = attendPacked(this.c_attn.forward(x), this, context); // [B, T, H·D]
    return projectHeads(z, this.c_proj, { heads: this.heads, residual, observer: context.observer?.at("attn") });
  }
}

function checkTable(table: FloatTensor, headSize: number): void {
  checkFloat("Attention", "rotary.table", table);
  checkShapeIs("Attention", "rotary.table", table, [-1, -1, 2]);
  if (2 * table.shape[1]! > headSize)
    throw new HeedError(
      "ERR_SHAPE",
      `Attention: expected rotary.table to have at most ${Math.floor(headSize / 2)} pairs for heads of ${headSize} dimensions, got ${table.shape[1]}`,
    );
}
