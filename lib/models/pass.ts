import { describe, HeedError } from "../util/errors.js";
import type { AttentionCache } from "../nn/attention-cache.js";
import { KvCache } from "../nn/kv-cache.js";
import { PagedPass } from "../nn/kv-pages.js";
import { Observer } from "../nn/observer.js";
import { checkDType, checkInteger, checkObject, checkShapeIs, checkTensor } from "../ops/check.js";
import type { IntTensor } from "../core/tensor.js";

/** Option to observe a forward pass. */
export interface ObserverOption {
  /** Observer whose hooks receive values of the pass by name and may replace them. @default null */
  observer?: Observer | null;
}

/** Options of a forward pass over tokens. */
export interface PassOptions<Cache extends AttentionCache = KvCache> extends ObserverOption {
  /**
   * Cache of the earlier tokens. `ids` continue them and are added to it. It is for inference, inside `noGrad()`.
   * @default null
   */
  cache?: Cache | null;
  /** Number of real ids in each sequence, [B], for a pass with a cache; the rest is padding. @default all */
  counts?: ArrayLike<number>;
  /** True if only the logits of each sequence's last real token are returned, [B, V]. @default false */
  lastOnly?: boolean;
  /**
   * i32 [R]: tokens whose logits are returned, [R, V], as indices of the flattened ids [B·T].
   *
   * @default null (all tokens, or those that `lastOnly` says)
   */
  rows?: IntTensor | null;
}

/**
 * Checks the arguments of a forward pass: ids are i32 [B, T] with 1 to `contextLength` tokens, B is that of the cache,
 * and every count is from 1 to T.
 *
 * @throws ERR_ARGUMENT, ERR_DTYPE, ERR_SHAPE or ERR_RANGE if they are not.
 */
export function checkPass(
  op: string,
  ids: IntTensor,
  options: PassOptions<AttentionCache>,
  contextLength: number,
): void {
  checkObject(op, "options", options);
  const { cache = null, counts, rows = null } = options;
  if (cache !== null && !(cache instanceof KvCache) && !(cache instanceof PagedPass))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected cache to be a KvCache, got ${describe(cache)}`);
  checkObserver(op, options);
  checkTensor(op, "ids", ids);
  checkDType(op, "ids", ids, "i32");
  checkShapeIs(op, "ids", ids, [cache?.batch ?? -1, -1]);
  const [batch, tokens] = ids.shape as [number, number];
  // The tokens of a paged pass belong to several sequences.
  const most = cache instanceof PagedPass ? Infinity : contextLength;
  if (tokens === 0 || tokens > most)
    throw new HeedError("ERR_SHAPE", `${op}: expected 1 to ${most} tokens, got ${tokens}`);
  if (rows !== null) {
    checkTensor(op, "rows", rows, ids);
    checkDType(op, "rows", rows, "i32");
    checkShapeIs(op, "rows", rows, [-1]);
  }
  if (counts) for (let b = 0; b < batch; b++) checkInteger(op, `counts[${b}]`, counts[b], 1, tokens);
}

/**
 * Checks that the observer is one, or null.
 *
 * @throws ERR_ARGUMENT if it is something else.
 */
function checkObserver(op: string, { observer = null }: ObserverOption): void {
  if (observer !== null && !(observer instanceof Observer))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected observer to be an Observer, got ${describe(observer)}`);
}

/**
 * Checks that lengths are i32 [B], one for each sequence of ids [B, T], or null.
 *
 * @throws ERR_ARGUMENT, ERR_DTYPE or ERR_SHAPE if they are not.
 */
export function checkLengths(op: string, name: string, lengths: IntTensor | null, ids: IntTensor): void {
  if (lengths === null) return;
  checkTensor(op, name, lengths, ids);
  checkDType(op, name, lengths, "i32");
  checkShapeIs(op, name, lengths, [ids.shape[0]!]);
}
