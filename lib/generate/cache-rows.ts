import type { KvCache } from "../nn/kv-cache.js";
import { cacheWrite } from "../ops/cache-write.js";
import { narrow } from "../ops/views.js";
import { scope } from "../scope.js";

/** Copies a sequence of one cache to a row of another. The copy is only enqueued. */
export function copyRow(from: KvCache, row: number, to: KvCache, toRow: number): void {
  const length = from.lengths[row]!;
  scope(() => {
    for (const [i, layer] of from.layers.entries())
      for (const part of ["keys", "values"] as const)
        cacheWrite(narrow(to.layers[i]![part], 0, toRow, 1), narrow(narrow(layer[part], 0, row, 1), 1, 0, length));
  });
  to.lengths[toRow] = length;
}

/** Empties a row of a cache. An empty row costs almost nothing until it is written again. */
export function clearRow(cache: KvCache, row: number): void {
  cache.lengths[row] = 0;
}
