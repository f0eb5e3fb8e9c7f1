import type { KvCache } from "../nn/kv-cache.js";
import { cacheWrite } from "../ops/cache-write.js";
import { narrow } from "../ops/views.js";
import { scope } from "../scope.js";

/** Makes a sequence of one cache a sequence of another. Only enqueues. */
export function copyRow(from: KvCache, row: number, to: KvCache, toRow: number): void {
  const length = from.lengths[row]!;
  scope(() => {
    for (const [i, layer] of from.layers.entries())
      for (const part of ["keys", "values"] as const)
        cacheWrite(narrow(to.layers[i]![part], 0, toRow, 1), narrow(narrow(layer[part], 0, row, 1), 1, 0, length));
  });
  to.lengths[toRow] = length;
}

/** Makes a sequence of a cache empty: it costs next to nothing until it is written again. */
export function clearRow(cache: KvCache, row: number): void {
  cache.lengths[row] = 0;
}
