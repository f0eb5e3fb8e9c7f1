import { ops } from "../core/native.js";
import { type FloatTensor, type IntTensor, Tensor } from "../core/tensor.js";
import { checkDType, checkFloat, checkShapeIs, checkTensor } from "./check.js";
import type { StoredKeys } from "./quantized-keys.js";

/**
 * Writes keys or values into a cache: cache[b, starts[b] + t] = values[b, t]. It is not recorded, since caches are for
 * inference. With `pages` i32 [B, P], the cache consists of pages, [N, S, H, D]: token j of sequence b is token j mod S
 * of page pages[b, ⌊j/S⌋].
 *
 * cache [B, Tmax, H, D]; values [B, T, H, D], with any strides as long as D is contiguous; starts i32 [B], by default
 * 0. Both have one dtype, or the values are f32 and are rounded to a cache in bf16 or f16.
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
  if (values instanceof Tensor && values.dtype === "f32") checkTensor("cacheWrite", "values", values, cache);
  else checkFloat("cacheWrite", "values", values, cache);
  cacheWriteInto(cache, values, starts, pages);
}

/** @internal Does the same as `cacheWrite`, for a cache that may also be in 8 bits: then it stores the values' codes. */
export function cacheWriteInto(
  stored: StoredKeys,
  values: FloatTensor,
  starts: IntTensor | null = null,
  pages: IntTensor | null = null,
): void {
  const [cache, scales] = stored instanceof Tensor ? [stored, null] : [stored.codes, stored.scales];
  checkShapeIs("cacheWrite", "cache", cache, [-1, -1, -1, -1]);
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
  ops.cache_write({ cache, scales, values, starts, pages });
  cache.overwritten();
  scales?.overwritten();
}
