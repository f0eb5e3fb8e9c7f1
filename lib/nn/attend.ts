// The core that every attention module shares. A module projects its input with its own parameters, which have the
// names of the published files, and calls `attend`. The core normalises and rotates queries and keys, writes to the
// cache, runs the fused operation (or the unfused one, if an observer wants the scores) and reports values to the
// observer.
import { attention, type BlockMask, packedAttention } from "../ops/attention.js";
import { rotary } from "../ops/rotary.js";
import { unfusedAttention, type UnfusedAttentionOptions } from "../ops/unfused-attention.js";
import { zeros } from "../core/creation.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { Dropout } from "./dropout.js";
import { cutHeads, joinHeads } from "./heads.js";
import type { AttentionCache } from "./attention-cache.js";
import type { Observer } from "./observer.js";
import type { RmsNorm } from "./rms-norm.js";

/** Rules of one layer's attention. They hold for every batch. */
export interface AttentionRules {
  /** True if a token does not see the tokens after it. @default false */
  readonly causal?: boolean;
  /**
   * Number of tokens that a token sees back from itself, itself included. Attention that is not causal also sees as
   * many forward. 0 means no limit.
   * @default 0
   */
  readonly window?: number;
  /** Cap of the scores: each score s becomes softcap · tanh(s / softcap). 0 leaves the scores unchanged. @default 0 */
  readonly softcap?: number;
  /** Factor of the scores. @default 1/√D */
  readonly scale?: number;
  /** Slopes of ALiBi, f32 [H]: head h subtracts slopes[h] · distance from its scores. @default null (no slopes) */
  readonly slopes?: FloatTensor | null;
  /** Table from `rotaryTable` that rotates queries and keys by their positions. @default null (no rotation) */
  readonly rotaryTable?: FloatTensor | null;
  /**
   * True if the table rotates pairs of neighbouring dimensions, false if it pairs the halves of a head.
   * @default false
   */
  readonly interleaved?: boolean;
  /** Norm of each head's queries, applied before the rotation. @default null (no norm) */
  readonly q_norm?: RmsNorm | null;
  /** Norm of each head's keys, applied before the rotation. @default null (no norm) */
  readonly k_norm?: RmsNorm | null;
  /** Name of this attention within its block, which observers use. @default "attn" */
  readonly part?: string;
  /** Dropout of the attention weights. A pass with a cache is inference and drops nothing. */
  readonly dropout: Dropout;
}

/** Description of a forward pass's batch that the attention of every layer receives. */
export interface AttentionContext {
  /**
   * Number of real tokens in each sequence, i32 [B]; the rest is padding at its end. A pass with a cache ignores it.
   */
  keyLengths?: IntTensor | null;
  /** Range of keys that each token may see, i32 [B, T, 2]; see `AttentionOptions.keyRanges`. */
  keyRanges?: IntTensor | null;
  /** Mask of the blocks of keys that a token may see; see `AttentionOptions.blocks`. */
  blocks?: BlockMask | null;
  /** False if `keyRanges` alone decide which keys are hidden. @default the module's `causal` */
  causal?: boolean;
  /** Cache of the earlier tokens. The pass adds the layer's new keys and values to it. @default null */
  cache?: AttentionCache | null;
  /** Index of the layer whose keys and values the cache holds for this attention. @default 0 */
  layer?: number;
  /** Observer of this block's values, such as `attn.hook_pattern`. @default null */
  observer?: Observer | null;
}

interface BiasedContext extends AttentionContext {
  /** Biases of keys by their distance from the query; see `AttentionOptions`. They get no gradient. @default null */
  relative?: FloatTensor | null;
  /** Bias of the scores that holds what `relative` and every mask say, and gets a gradient. @default null */
  bias?: FloatTensor | null;
}

/** Numbers of heads in a packed projection. */
interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
}

/**
 * Returns the attention [B, T, H·D] of queries q [B, T, H, D] to keys k and values v [B, S, Hkv, D], ready for the
 * output projection. q, k and v come straight from their projections: this function normalises and rotates them. With a
 * cache, k and v are those of the new tokens only.
 *
 * A `bias` [B or 1, H, T, S] is added to the scores and receives a gradient. It replaces every mask: only its −∞
 * entries hide keys. If there is `relative` too, it is used instead, unless an observer wants the scores.
 *
 * An observer sees hook_q, hook_k and hook_v as projected, hook_rot_q and hook_rot_k if there is a rotary table,
 * hook_attn_scores and hook_pattern [B, H, T, S], and hook_z [B, T, H, D].
 */
export function attend(
  q: FloatTensor,
  k: FloatTensor,
  v: FloatTensor,
  rules: AttentionRules,
  context: BiasedContext = {},
): FloatTensor {
  const { cache = null, layer = 0, relative = null } = context;
  const observer = listening(rules, context);
  const apart = wantsScores(observer);
  const bias = relative && !apart ? null : (context.bias ?? null);
  const { rotaryTable: table = null, interleaved = false, q_norm = null, k_norm = null } = rules;
  const places = cache?.places ?? {};
  const see = (name: string, x: FloatTensor): FloatTensor => (observer ? observer.see(name, x) : x);
  const place = (x: FloatTensor, norm: RmsNorm | null, name: string): FloatTensor => {
    const normed = norm ? norm.forward(x) : x;
    return table ? see(name, rotary(normed, table, { ...places, interleaved })) : normed;
  };
  q = place(see("hook_q", q), q_norm, "hook_rot_q");
  k = place(see("hook_k", k), k_norm, "hook_rot_k");
  v = see("hook_v", v);
  const options = optionsOf(q, rules, { ...context, bias });
  if (!bias && !apart) {
    const masks = { ...options, relative };
    return joinHeads(see("hook_z", cache ? cache.attend(layer, q, k, v, masks) : attention(q, k, v, masks)));
  }
  if (cache) ({ keys: k, values: v } = cache.written(layer, k, v));
  const z = unfusedAttention(q, k, v, {
    ...options,
    ...cache?.masks,
    onScores: (scores) => see("hook_attn_scores", scores),
    onPattern: (pattern) => see("hook_pattern", pattern),
  });
  return joinHeads(see("hook_z", z));
}

/**
 * Returns the same as `attend` for one packed projection qkv [B, T, (H + 2·Hkv)·D], which holds queries, keys and
 * values in this order. The projection is cut into three only if a cache, an observer, a norm or a rotation needs the
 * parts.
 */
export function attendPacked(
  qkv: FloatTensor,
  rules: AttentionRules & Heads,
  context: AttentionContext = {},
): FloatTensor {
  const { heads, kvHeads, rotaryTable = null, q_norm = null, k_norm = null } = rules;
  if (!context.cache && !listening(rules, context) && !rotaryTable && !q_norm && !k_norm)
    return packedAttention(qkv, { heads, kvHeads, ...optionsOf(qkv, rules, context) });
  const [q, k, v] = cutHeads(qkv, [heads, kvHeads, kvHeads]);
  return attend(q, k, v, rules, context);
}

/** Returns true if an observer of an attention's values wants its scores or weights, which the fused operation lacks. */
export function wantsScores(observer: Observer | null): boolean {
  return observer !== null && (observer.wants("hook_attn_scores") || observer.wants("hook_pattern"));
}

/** Returns the observer of this attention's values, or null if no hook asks for any. */
function listening({ part = "attn" }: AttentionRules, { observer = null }: AttentionContext): Observer | null {
  return observer?.at(part) ?? null;
}

/** Returns the options of the attention operation; `shape[0]` is the batch size B. */
function optionsOf(
  { shape, device }: FloatTensor,
  rules: AttentionRules,
  context: BiasedContext,
): UnfusedAttentionOptions {
  const { window = 0, softcap = 0, slopes = null } = rules;
  const { cache = null, keyLengths = null, keyRanges = null, blocks = null, bias = null, relative = null } = context;
  const { causal = rules.causal ?? false } = context;
  const scale = rules.scale === undefined ? {} : { scale: rules.scale };
  const dropped = cache ? {} : rules.dropout.fused;
  if (bias) return { bias, ...scale, ...dropped };
  const masks = { causal, window, keyRanges, blocks, softcap, slopes, ...scale };
  if (cache) return masks; // the cache says where its sequences are
  // Queries begin at position 0 even if sequences end in padding; the default would count back from the last real key.
  const counts = causal || window > 0 || slopes !== null || blocks !== null || relative !== null;
  const queryStarts = keyLengths && counts ? zeros([shape[0]!], { dtype: "i32", device }) : null;
  return { ...masks, keyLengths, queryStarts, ...dropped };
}
