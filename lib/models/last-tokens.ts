import { embedding } from "../ops/embedding.js";
import { reshape } from "../ops/views.js";
import { tensor } from "../creation.js";
import type { FloatTensor } from "../tensor.js";

/** The last real position of each sequence, which has counts[b] of them (all unless given): [B, T, C] → [B, C]. */
export function lastTokens(x: FloatTensor, counts?: ArrayLike<number>): FloatTensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  if (tokens === 1) return reshape(x, [batch, width]);
  const rows = Int32Array.from({ length: batch }, (_, b) => b * tokens + (counts?.[b] ?? tokens) - 1);
  return embedding(tensor(rows, [batch], { device: x.device }), reshape(x, [batch * tokens, width]));
}
