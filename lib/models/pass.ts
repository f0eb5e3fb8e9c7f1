import { describe, HeedError } from "../errors.js";
import { KvCache } from "../nn/kv-cache.js";
import { Observer } from "../nn/observer.js";
import { checkDType, checkInteger, checkObject, checkShapeIs, checkTensor } from "../ops/check.js";
import type { IntTensor } from "../tensor.js";

/** Who listens to a forward pass. */
export interface ObserverOption {
  /** Gets values of the pass by their names, and may put others in their place. @default null, nobody does */
  observer?: Observer | null;
}

/** How a model goes over tokens. */
export interface PassOptions extends ObserverOption {
  /** Earlier tokens; `ids` follow them and are added to it. For inference, inside `noGrad()`. */
  cache?: KvCache | null;
  /** With a cache: how many of the ids are real in each sequence; all unless given. */
  counts?: ArrayLike<number>;
  /** Logits of each sequence's last real token alone, [B, V]. */
  lastOnly?: boolean;
}

/** Throws unless ids are i32 [B, T] of at most `contextLength` tokens and fit the cache; counts[b] is from 1 to T. */
export function checkPass(op: string, ids: IntTensor, options: PassOptions, contextLength: number): void {
  checkObject(op, "options", options);
  const { cache = null, counts } = options;
  if (cache !== null && !(cache instanceof KvCache))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected cache to be a KvCache, got ${describe(cache)}`);
  checkObserver(op, options);
  checkTensor(op, "ids", ids);
  checkDType(op, "ids", ids, "i32");
  checkShapeIs(op, "ids", ids, [cache?.batch ?? -1, -1]);
  const [batch, tokens] = ids.shape as [number, number];
  if (tokens === 0 || tokens > contextLength)
    throw new HeedError("ERR_SHAPE", `${op}: expected 1 to ${contextLength} tokens, got ${tokens}`);
  if (counts) for (let b = 0; b < batch; b++) checkInteger(op, `counts[${b}]`, counts[b], 1, tokens);
}

/** Throws ERR_ARGUMENT unless who listens is an observer. */
function checkObserver(op: string, { observer = null }: ObserverOption): void {
  if (observer !== null && !(observer instanceof Observer))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected observer to be an Observer, got ${describe(observer)}`);
}

/** Throws unless lengths are i32 [B], one for each sequence of ids [B, T], or null. */
export function checkLengths(op: string, name: string, lengths: IntTensor | null, ids: IntTensor): void {
  if (lengths === null) return;
  checkTensor(op, name, lengths, ids);
  checkDType(op, name, lengths, "i32");
  checkShapeIs(op, name, lengths, [ids.shape[0]!]);
}
