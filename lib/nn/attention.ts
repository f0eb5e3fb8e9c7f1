import { HeedError } from "../errors.js";
import { alibiSlopes } from "../ops/attention-masks.js";
import { checkFloat, checkInteger, checkNumber, checkShapeIs, largestFloat } from "../ops/check.js";
import { keep } from "../scope.js";
import type { FloatTensor } from "../tensor.js";
import { type AttentionContext, type AttentionRules, attendPacked } from "./attend.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import { headSizeOf, type HeadsConfig } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { RmsNorm } from "./rms-norm.js";

export interface AttentionConfig extends Omit<HeadsConfig, "headSize"> {
  causal: boolean;
  bias?: boolean;
  /** Of the attention weights. */
  dropout?: number;
  /** A token sees the last `window` tokens, itself included, and unless causal as many after it; 0, all, unless given. */
  window?: number;
  /** Scores become softcap · tanh(score / softcap); 0, none, unless given. */
  softcap?: number;
  /** Factor of the scores. @default 1/√D, D the size of a head */
  scale?: number;
  /** Scores fall with the distance, at each head's own slope (Press et al. 2022); false unless given. */
  alibi?: boolean;
  /** Queries and keys are turned by their positions: a table from `rotaryTable`, which layers may share, and its pairing. */
  rotary?: { table: FloatTensor; interleaved?: boolean } | null;
  /** RMS norms of each head's queries and keys (Henry et al. 2020, as in Qwen 3); false unless given. */
  qkNorm?: boolean;
  /** Of those norms; 1e-5 unless given. */
  eps?: number;
  layout?: "oi" | "io";
  std?: number;
  /** Standard deviation of the output projection. */
  outputStd?: number;
}

/** Multi-head self-attention (Vaswani et al. 2017, §3.2.2) with the queries, keys and values in one projection. */
export class Attention extends Module implements AttentionRules {
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly dropout: Dropout;
  readonly heads: number;
  readonly kvHeads: number;
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

  /** x [B, T, C] → [B, T, C], with `residual` added if given. */
  forward(x: FloatTensor, context: AttentionContext = {}, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("Attention", "x", x);
    checkShapeIs("Attention", "x", x, [-1, -1, -1]);
    const z = attendPacked(this.c_attn.forward(x), this, context); // [B, T, H·D]
    return this.c_proj.forward(z, { residual });
  }
}

function checkTable(table: FloatTensor, headSize: number): void {
  checkFloat("Attention", "rotary.table", table);
  checkShapeIs("Attention", "rotary.table", table, [-1, -1, 2]);
  if (2 * table.shape[1]! > headSize)
    throw new HeedError(
      "ERR_SHAPE",
      `Attention: expected rotary.table of at most ${Math.floor(headSize / 2)} pairs of a head's ${headSize} dimensions, got ${table.shape[1]}`,
    );
}
