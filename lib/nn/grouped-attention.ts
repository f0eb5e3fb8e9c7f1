import { checkFloat, checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import type { FloatTensor } from "../core/tensor.js";
import { type AttentionContext, attend } from "./attend.js";
import { type AttentionProjections, wholeLayer } from "./block-parts.js";
import { Dropout, DropoutSeeds } from "./dropout.js";
import { headSizeOf, type HeadsConfig, splitHeads } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { projectHeads } from "./project-heads.js";
import { RmsNorm } from "./rms-norm.js";

/** Configuration of a `GroupedAttention` module. */
export interface GroupedAttentionConfig extends HeadsConfig {
  /** True if the projections of queries, keys and values have biases. @default false */
  bias?: boolean;
  /** True if the output projection has a bias. @default false */
  outputBias?: boolean;
  /** True if each head's queries and keys are RMS-normalised (Qwen 3). @default false */
  qkNorm?: boolean;
  /** Epsilon that the norms of queries and keys add to the mean square. @default 1e-6 */
  eps?: number;
  /** Number of tokens that a token sees back from itself, itself included. 0 means all of them. @default 0 */
  window?: number;
  /** Probability of dropping an attention weight in training. @default 0 */
  dropout?: number;
  /** True if rotary positions pair neighbouring dimensions of a head, false if they pair its halves. @default false */
  interleaved?: boolean;
  /** Standard deviation of the initial weights. @default 0.02 */
  std?: number;
  /** Standard deviation of the output projection's initial weights. @default std */
  outputStd?: number;
}

/** Description of a pass's batch that `GroupedAttention` receives. */
export interface GroupedAttentionContext extends AttentionContext {
  /** Rotary table f32 [positions, R/2, 2] from `rotaryTable`; R is the number of rotated dimensions of a head. */
  table: FloatTensor;
}

/**
 * Causal self-attention in which groups of heads share keys and values (Ainslie et al. 2023), with rotary positions
 * (Su et al. 2021). Its parameters have the names of Llama's files.
 *
 * @example
 * const attn = new GroupedAttention({ width: 16, heads: 4, kvHeads: 2 }, new Initializer(1, device()));
 * const table = rotaryTable({ size: 4, length: 32 });
 * attn.forward(randn([2, 5, 16], { seed: 1 }), { table }).shape; // [2, 5, 16]
 *
 * @see https://arxiv.org/abs/2305.13245
 * @see https://arxiv.org/abs/2104.09864
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

  /** Projections by role. */
  get projections(): AttentionProjections {
    const { q_proj, k_proj, v_proj, o_proj, heads, kvHeads } = this;
    const [q, k, v, o] = [wholeLayer(q_proj), wholeLayer(k_proj), wholeLayer(v_proj), wholeLayer(o_proj)];
    return { q, k, v, o, heads, kvHeads };
  }

  /** Returns the attention's output [B, T, C] for x [B, T, C], plus `residual` [B, T, C] if one is given. */
  forward(x: FloatTensor, context: GroupedAttentionContext, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("GroupedAttention", "x", x);
    checkShapeIs("GroupedAttention", "x", x, [-1, -1, -1]);
    const { window, interleaved, q_norm, k_norm, dropout } = this;
    const q = splitHeads(this.q_proj.forward(x), this.heads); // [B, T, H, D]
    const k = splitHeads(this.k_proj.forward(x), this.kvHeads); // [B, T, Hkv, D]
    const v = splitHeads(this.v_proj.forward(x), this.kvHeads);
    const rules = { causal: true, window, rotaryTable: context.table, interleaved, q_norm, k_norm, dropout };
    const z = attend(q, k, v, rules, context); // [B, T, H·D]
    return projectHeads(z, this.o_proj, { heads: this.heads, residual, observer: context.observer?.at("attn") });
  }
}
