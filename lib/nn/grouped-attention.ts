import { HeedError } from "../errors.js";
import { attention, type BlockMask } from "../ops/attention.js";
import { checkFloat, checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import { rotary } from "../ops/rotary.js";
import { reshape } from "../ops/views.js";
import { zeros } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { Dropout, DropoutSeeds } from "./dropout.js";
import type { Initializer } from "./init.js";
import type { KvCache } from "./kv-cache.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";
import { RmsNorm } from "./rms-norm.js";

export interface GroupedAttentionConfig {
  width: number;
  heads: number;
  /** Heads of keys and values, a divisor of heads: each serves a group of them; heads unless given. */
  kvHeads?: number;
  /** D; width / heads unless given. */
  headSize?: number;
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

export interface GroupedAttentionContext {
  /** f32 [positions, R/2, 2], from `rotaryTable`. */
  table: FloatTensor;
  /** i32 [B]: real tokens in each sequence, the rest is padding at its end. Without a cache only. */
  keyLengths?: IntTensor | null;
  /** i32 [B, T, 2]: the keys that each token may see, as the operation has it. */
  keyRanges?: IntTensor | null;
  /** Which blocks of keys a token sees, as the operation has it. */
  blocks?: BlockMask | null;
  /** false where `keyRanges` alone say what is hidden; true unless given. */
  causal?: boolean;
  /** Earlier tokens; the layer's new ones are added to it. */
  cache?: KvCache | null;
  /** Which of the cache's layers this is. */
  layer?: number;
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
    checkInteger(op, "width", width, 1);
    checkInteger(op, "heads", heads, 1);
    checkInteger(op, "kvHeads", kvHeads, 1);
    checkInteger(op, "window", window, 0);
    const headSize = config.headSize ?? width / heads;
    if (heads % kvHeads !== 0)
      throw new HeedError("ERR_SHAPE", `${op}: expected heads to be a multiple of ${kvHeads} kvHeads, got ${heads}`);
    if (!Number.isInteger(headSize) || headSize < 1)
      throw new HeedError("ERR_SHAPE", `${op}: expected width to be a multiple of ${heads} heads, got ${width}`);
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
    const { table, cache = null, keyLengths = null, keyRanges = null, causal = true, layer = 0 } = context;
    const { blocks = null } = context;
    const { heads, kvHeads, window } = this;
    const [batch, tokens] = x.shape as [number, number, number];
    const starts = cache?.starts ?? null;
    const turn = (part: FloatTensor): FloatTensor => rotary(part, table, { starts, interleaved: this.interleaved });
    const q = turn(normed(this.#split(this.q_proj.forward(x), heads), this.q_norm)); // [B, T, H, D]
    const k = turn(normed(this.#split(this.k_proj.forward(x), kvHeads), this.k_norm)); // [B, T, Hkv, D]
    const v = this.#split(this.v_proj.forward(x), kvHeads);
    const mask = { causal, window, keyRanges, blocks };
    let y: FloatTensor;
    if (cache) {
      const { keys, values } = cache.write(layer, k, v);
      y = attention(q, keys, values, { ...mask, keyLengths: cache.keyLengths, queryStarts: starts });
    } else {
      // With padding at the end, queries still begin at position 0 (the default would count back from the last key).
      const queryStarts = keyLengths ? zeros([batch], { dtype: "i32", device: x.device }) : null;
      y = attention(q, k, v, { ...mask, keyLengths, queryStarts, ...this.dropout.fused });
    }
    return this.o_proj.forward(reshape(y, [batch, tokens, heads * this.headSize]), { residual });
  }

  /** [B, T, H·D] → [B, T, H, D] */
  #split(x: FloatTensor, heads: number): FloatTensor {
    const [batch, tokens] = x.shape as [number, number, number];
    return reshape(x, [batch, tokens, heads, this.headSize]);
  }
}

function normed(x: FloatTensor, norm: RmsNorm | null): FloatTensor {
  return norm ? norm.forward(x) : x;
}
