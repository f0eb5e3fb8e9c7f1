// Tensors that the operation `sample` reads: numbers that are added to logits, and bits of the tokens that may be chosen.
import { tensor } from "../creation.js";
import type { Device } from "../device.js";
import { keep } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";

/** Returns f32 [B, V] with these numbers in every row, and 0 for all other tokens. */
export function logitBiases(
  biases: readonly (readonly [token: number, bias: number])[],
  [batch, vocabulary]: readonly [number, number],
  device: Device,
): FloatTensor {
  const values = new Float32Array(batch * vocabulary);
  for (let row = 0; row < batch; row++) for (const [token, bias] of biases) values[row * vocabulary + token] = bias;
  return keep(tensor(values, [batch, vocabulary], { device }));
}

/** Returns bits i32 [B, ⌈V/32⌉] that allow every token but these. */
export function allowedTokens(
  excluded: Iterable<number>,
  [batch, vocabulary]: readonly [number, number],
  device: Device,
): IntTensor {
  const words = Math.ceil(vocabulary / 32);
  const row = new Int32Array(words).fill(-1);
  for (const token of excluded) row[token >> 5]! &= ~(1 << (token & 31));
  const values = new Int32Array(batch * words);
  for (let b = 0; b < batch; b++) values.set(row, b * words);
  return keep(tensor(values, [batch, words], { device }));
}
