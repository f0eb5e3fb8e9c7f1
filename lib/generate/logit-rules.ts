// Tensors that the operation `sample` reads besides the logits, one row per sequence. Each is null if no row needs it.
import { tensor } from "../creation.js";
import type { Device } from "../device.js";
import type { FloatTensor, IntTensor } from "../tensor.js";

/** Numbers that are added to the logits of single tokens. */
export type TokenBiases = readonly (readonly [token: number, bias: number])[];

/** Returns f32 [B, V] with the numbers of each row, and 0 for all other tokens. */
export function logitBiases(rows: readonly TokenBiases[], vocabulary: number, device: Device): FloatTensor | null {
  if (rows.every((biases) => biases.length === 0)) return null;
  const values = new Float32Array(rows.length * vocabulary);
  for (const [row, biases] of rows.entries())
    for (const [token, bias] of biases) values[row * vocabulary + token] = bias;
  return tensor(values, [rows.length, vocabulary], { device });
}

/** Returns bits i32 [B, ⌈V/32⌉] that allow every token in a row but the excluded ones. */
export function allowedTokens(
  excluded: readonly ReadonlySet<number>[],
  vocabulary: number,
  device: Device,
): IntTensor | null {
  if (excluded.every(({ size }) => size === 0)) return null;
  const words = Math.ceil(vocabulary / 32);
  const values = new Int32Array(excluded.length * words).fill(-1);
  for (const [row, tokens] of excluded.entries())
    for (const token of tokens) values[row * words + (token >> 5)]! &= ~(1 << (token & 31));
  return tensor(values, [excluded.length, words], { device });
}

/** Returns the latest tokens of each row, i32 [B, W] with -1 before them; W is the longest row's length by default. */
export function tokenRows(
  rows: readonly (readonly number[])[],
  device: Device,
  window = Math.max(...rows.map(({ length }) => length)),
): IntTensor | null {
  if (window === 0) return null;
  const values = new Int32Array(rows.length * window).fill(-1);
  for (const [row, tokens] of rows.entries()) {
    const latest = tokens.slice(-window);
    values.set(latest, (row + 1) * window - latest.length);
  }
  return tensor(values, [rows.length, window], { device });
}
