import { ops } from "../native.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkDType, checkFloat, checkShapeIs, checkTensor } from "./check.js";

/**
 * Writes keys or values into a cache: cache[b, starts[b] + t] = values[b, t]. cache [B, Tmax, H, D], values
 * [B, T, H, D] (any strides with D contiguous), starts i32 [B] (0 unless given). Not recorded: caches are for
 * inference. What would lie past the cache is an error on the device: reading the cache, or what is computed from
 * it, rejects with ERR_RANGE.
 */
export function cacheWrite(cache: FloatTensor, values: FloatTensor, starts: IntTensor | null = null): void {
  checkFloat("cacheWrite", "cache", cache);
  checkShapeIs("cacheWrite", "cache", cache, [-1, -1, -1, -1]);
  checkFloat("cacheWrite", "values", values, cache);
  checkShapeIs("cacheWrite", "values", values, [cache.shape[0]!, -1, cache.shape[2]!, cache.shape[3]!]);
  if (starts) {
    checkTensor("cacheWrite", "starts", starts, cache);
    checkDType("cacheWrite", "starts", starts, "i32");
    checkShapeIs("cacheWrite", "starts", starts, [cache.shape[0]!]);
  }
  ops.cache_write({ cache, values, starts });
  cache.overwritten();
}
