// The one attention core: every module of attention projects its input, by the names of its parameters, and calls it.
import { attention, type BlockMask, packedAttention } from "../ops/attention.js";
import { rotary } from "../ops/rotary.js";
import { unfusedAttention, type UnfusedAttentionOptions } from "../ops/unfused-attention.js";
import { zeros } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { Dropout } from "./dropout.js";
import { cutHeads, joinHeads } from "./heads.js";
import type { KvCache } from "./kv-cache.js";
import type { Observer } from "./observer.js";
import type { RmsNorm } from "./rms-norm.js";

/** Rules of one layer's attention, which hold for every batch. */
export interface AttentionRules {
  /** Hides from a token all tokens after it. @default false */
  readonly causal?: boolean;
  /** A token sees the last `window` tokens, itself included, and unless causal as many after it. @default 0, all of them */
  readonly window?: number;
  /** Scores become softcap · tanh(score / softcap). @default 0, as they are */
  readonly softcap?: number;
  /** The scores are multiplied by this factor. @default 1/√D */
  readonly scale?: number;
  /** The slopes of ALiBi, f32 [H], by which scores fall with the distance. @default null, none */
  readonly slopes?: FloatTensor | null;
  /** A table of `rotaryTable`, by which queries and keys are turned. @default null, none */
  readonly rotaryTable?: FloatTensor | null;
  /** Lets the table turn neighbouring dimensions instead of halves. @default false */
  readonly interleaved?: boolean;
  /** Norms each head's queries before they are turned. @default null, none */
  readonly q_norm?: RmsNorm | null;
  /** Norms each head's keys before they are turned. @default null, none */
  readonly k_norm?: RmsNorm | null;
  /** The name that an observer knows this attention by, within its block. @default "attn" */
  readonly part?: string;
  /** Drops attention weights. A pass with a cache is inference, and drops none. */
  readonly dropout: Dropout;
}

/** Describes the batch of a pass to the attention of every layer. */
export interface AttentionContext {
  /** i32 [B]: how many tokens of each sequence are real; the rest is padding at its end. Without a cache only. */
  keyLengths?: IntTensor | null;
  /** i32 [B, T, 2]: the keys that each token may see, as the operation has it. */
  keyRanges?: IntTensor | null;
  /** Mask of the blocks of keys that a token sees, in the form that the operation takes. */
  blocks?: BlockMask | null;
  /** false where `keyRanges` alone say what is hidden; the module's own unless given. */
  causal?: boolean;
  /** Earlier tokens, and where each sequence stands; the layer's new keys and values are added to it. */
  cache?: KvCache | null;
  /** Index of the layer whose keys and values the cache holds for this attention. @default 0 */
  layer?: number;
  /** Listens to values of this block, such as `attn.hook_pattern`. @default null, nobody does */
  observer?: Observer | null;
}

interface BiasedContext extends AttentionContext {
  bias?: FloatTensor | null;
}

/** Numbers of heads that lie in a packed projection. */
interface Heads {
  readonly heads: number;
  readonly kvHeads: number;
}

/**
 * Attention of queries q [B, T, H, D] to keys and values k and v [B, S, Hkv, D], all as they were projected → [B, T, H·D],
 * what the output projection takes. With a cache, k and v are those of the new tokens.
 *
 * A `bias` [B or 1, H, T, S] is added to the scores and has a gradient; it alone then says what is hidden.
 *
 * An observer sees hook_q, hook_k and hook_v as they were projected, hook_rot_q and hook_rot_k where they are turned,
 * hook_attn_scores and hook_pattern [B, H, T, S], and hook_z [B, T, H, D].
 */
export function attend(
  q: FloatTensor,
  k: FloatTensor,
  v: FloatTensor,
  rules: AttentionRules,
  context: BiasedContext = {},
): FloatTensor {
  const { cache = null, layer = 0, bias = null } = context;
  const observer = listening(rules, context);
  const { rotaryTable: table = null, interleaved = false, q_norm = null, k_norm = null } = rules;
  const starts = cache?.starts ?? null;
  const see = (name: string, x: FloatTensor): FloatTensor => (observer ? observer.see(name, x) : x);
  const place = (x: FloatTensor, norm: RmsNorm | null, name: string): FloatTensor => {
    const normed = norm ? norm.forward(x) : x;
    return table ? see(name, rotary(normed, table, { starts, interleaved })) : normed;
  };
  q = place(see("hook_q", q), q_norm, "hook_rot_q");
  k = place(see("hook_k", k), k_norm, "hook_rot_k");
  v = see("hook_v", v);
  if (cache) ({ keys: k, values: v } = cache.write(layer, k, v));
  const options = optionsOf(q, rules, context);
  if (!bias && !observer?.wants("hook_attn_scores") && !observer?.wants("hook_pattern"))
    return joinHeads(see("hook_z", attention(q, k, v, options)));
  if (cache) ({ keys: k, values: v } = cache.written(layer));
  const z = unfusedAttention(q, k, v, {
    ...options,
    onScores: (scores) => see("hook_attn_scores", scores),
    onPattern: (pattern) => see("hook_pattern", pattern),
  });
  return joinHeads(see("hook_z", z));
}

/**
 * The same of one projection qkv [B, T, (H + 2·Hkv)·D], queries, then keys, then values: as it lies, unless something
 * is done to a part of it.
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

/** Who listens to this attention. */
function listening({ part = "attn" }: AttentionRules, { observer = null }: AttentionContext): Observer | null {
  return observer?.at(part) ?? null;
}

/** The operation's options, for a batch of the size of x's. */
function optionsOf(
  { shape, device }: FloatTensor,
  rules: AttentionRules,
  context: BiasedContext,
): UnfusedAttentionOptions {
  const { window = 0, softcap = 0, slopes = null } = rules;
  const { cache = null, keyLengths = null, keyRanges = null, blocks = null, bias = null } = context;
  const { causal = rules.causal ?? false } = context;
  const scale = rules.scale === undefined ? {} : { scale: rules.scale };
  const dropped = cache ? {} : rules.dropout.fused;
  if (bias) return { bias, ...scale, ...dropped };
  const masks = { causal, window, keyRanges, blocks, softcap, slopes, ...scale };
  if (cache) return { ...masks, keyLengths: cache.keyLengths, queryStarts: cache.starts };
  // With padding at the end, queries still begin at position 0 (the default would count back from the last key).
  const counts = causal || window > 0 || slopes !== null || blocks !== null;
  const queryStarts = keyLengths && counts ? zeros([shape[0]!], { dtype: "i32", device }) : null;
  return { ...masks, keyLengths, queryStarts, ...dropped };
}
