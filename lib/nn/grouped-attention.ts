import { checkFloat, checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import type { FloatTensor } from "../tensor.js";
import { type AttentionContext, attend } from "./attend.js";
import { Dropout, DropoutSeeds } from "./dropout.js";
import { headSizeOf, type HeadsConfig, splitHeads } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { RmsNorm } from "./rms-norm.js";

export interface GroupedAttentionConfig extends HeadsConfig {
  /** Biases of the queries, keys and values; false unless given. */
  bias?: boolean;
  /** Bias of the output projection; false unless given. */
  outputBias?: boolean;
  /** RMS norms of each head's query and key (Qwen 3); false unless given. */
  qkNorm?: boolean;
  eps?: number;
  /** A token sees the last `window` tokens, itself included; 0, all of them, unless given. */
  window?: number;
  /** Of the attention weights; 0 unless given. */
  dropout?: number;
  /** Rotary positions turn neighbouring dimensions instead of halves. */
  interleaved?: boolean;
  std?: number;
  /** Standard deviation of the output projection. */
  outputStd?: number;
}

export interface GroupedAttentionContext extends AttentionContext {
  /** f32 [positions, R/2, 2], from `rotaryTable`. */
  table: FloatTensor;
}

/**
 * Causal self-attention whose keys and values are shared by groups of heads (Ainslie et al. 2023), with rotary positions
 * (Su et al. 2021), by Llama's names.
 */
export class GroupedAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly q_norm: RmsNorm | null;
  readonly k_norm: RmsNorm | null;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  readonly window: number;
  readonly interleaved: boolean;
  readonly dropout: Dropout;

  constructor(config: GroupedAttentionConfig, init: Initializer, seeds = new DropoutSeeds(0)) {
    super();
    const op = "GroupedAttention";
    checkObject(op, "config", config);
    const { width, heads, kvHeads = heads, bias = false, outputBias = false, qkNorm = false, eps = 1e-6 } = config;
    const { window = 0, interleaved = false, std = 0.02, outputStd = std } = config;
    checkInteger(op, "window", window, 0);
    const headSize = headSizeOf(op, config);
    this.heads = heads;
    this.kvHeads = kvHeads;
    this.headSize = headSize;
    this.window = window;
    this.interleaved = interleaved;
    this.dropout = new Dropout(config.dropout ?? 0, seeds);
    this.q_proj = new Linear({ inputs: width, outputs: heads * headSize, bias, std }, init);
    this.k_proj = new Linear({ inputs: width, outputs: kvHeads * headSize, bias, std }, init);
    this.v_proj = new Linear({ inputs: width, outputs: kvHeads * headSize, bias, std }, init);
    this.o_proj = new Linear({ inputs: heads * headSize, outputs: width, bias: outputBias, std: outputStd }, init);
    this.q_norm = qkNorm ? new RmsNorm({ width: headSize, eps }, init) : null;
    this.k_norm = qkNorm ? new RmsNorm({ width: headSize, eps }, init) : null;
  }

  /** x [B, T, C] → [B, T, C], with `residual` added if given. */
  forward(x: FloatTensor, context: GroupedAttentionContext, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("GroupedAttention", "x", x);
    checkShapeIs("GroupedAttention", "x", x, [-1, -1, -1]);
    const { window, interleaved, q_norm, k_norm, dropout } = this;
    const q = splitHeads(this.q_proj.forward(x), this.heads); // [B, T, H, D]
    const k = splitHeads(this.k_proj.forward(x), this.kvHeads); // [B, T, Hkv, D]
    const v = splitHeads(this.v_proj.forward(x), this.kvHeads);
    const rules = { causal: true, window, rotaryTable: context.table, interleaved, q_norm, k_norm, dropout };
    return this.o_proj.forward(attend(q, k, v, rules, context), { residual });
  }
}
