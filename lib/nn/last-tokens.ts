import { embedding } from "../ops/embedding.js";
import { reshape } from "../ops/views.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor } from "../core/tensor.js";

/**
 * Returns the state of each sequence's last real token, [B, C], from the states x [B, T, C]. Sequence b has counts[b]
 * real tokens; without `counts`, all T are real.
 */
export function lastTokens(x: FloatTensor, counts?: ArrayLike<number>): FloatTensor {
  const [batch, tokens, width] = x.shape as [number, number, number];
  if (tokens === 1) return reshape(x, [batch, width]);
  const rows = Int32Array.from({ length: batch }, (_, b) => b * tokens + (counts?.[b] ?? tokens) - 1);
  return embedding(tensor(rows, [batch], { device: x.device }), reshape(x, [batch * tokens, width]));
}
