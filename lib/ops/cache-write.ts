import { ops } from "../native.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkDType, checkFloat, checkShapeIs, checkTensor } from "./check.js";

/**
 * Writes keys or values into a cache: cache[b, starts[b] + t] = values[b, t]. It is not recorded, since caches are for
 * inference. With `pages` i32 [B, P], the cache consists of pages, [N, S, H, D]: token j of sequence b is token j mod S
 * of page pages[b, ⌊j/S⌋].
 *
 * cache [B, Tmax, H, D]; values [B, T, H, D], with any strides as long as D is contiguous; starts i32 [B], by default
 * 0.
 *
 * Values that would lie past the end of the cache, or in a page that does not exist, are an error on the device: reading the cache, or what is computed
 * from it, rejects with ERR_RANGE.
 *
 * @example
 * const cache = zeros([1, 32, 2, 16]);
 * cacheWrite(cache, randn([1, 4, 2, 16], { seed: 1 }), tensor(new Int32Array([8])));
 *
 * @throws ERR_SHAPE if the shapes do not fit.
 */
export function cacheWrite(
  cache: FloatTensor,
  values: FloatTensor,
  starts: IntTensor | null = null,
  pages: IntTensor | null = null,
): void {
  checkFloat("cacheWrite", "cache", cache);
  checkShapeIs("cacheWrite", "cache", cache, [-1, -1, -1, -1]);
  checkFloat("cacheWrite", "values", values, cache);
  checkShapeIs("cacheWrite", "values", values, [pages ? -1 : cache.shape[0]!, -1, cache.shape[2]!, cache.shape[3]!]);
  const batch = values.shape[0]!;
  if (starts) {
    checkTensor("cacheWrite", "starts", starts, cache);
    checkDType("cacheWrite", "starts", starts, "i32");
    checkShapeIs("cacheWrite", "starts", starts, [batch]);
  }
  if (pages) {
    checkTensor("cacheWrite", "pages", pages, cache);
    checkDType("cacheWrite", "pages", pages, "i32");
    checkShapeIs("cacheWrite", "pages", pages, [batch, -1]);
  }
  ops.cache_write({ cache, values, starts, pages });
  cache.overwritten();
}
