// Contents of the tensors that the operation `sample` reads besides the logits, one row per sequence.

/** Numbers that are added to the logits of single tokens. */
export type TokenBiases = readonly (readonly [token: number, bias: number])[];

/** Returns f32 [B, V] with the numbers of each row, and 0 for all other tokens. */
export function logitBiases(rows: readonly TokenBiases[], vocabulary: number): Float32Array {
  const values = new Float32Array(rows.length * vocabulary);
  for (const [row, biases] of rows.entries())
    for (const [token, bias] of biases) values[row * vocabulary + token] = bias;
  return values;
}

/** Returns the latest tokens of each row, i32 [B, W] with -1 before them. */
export function latestTokens(rows: readonly (readonly number[])[], window: number): Int32Array {
  const values = new Int32Array(rows.length * window).fill(-1);
  for (const [row, tokens] of rows.entries()) {
    const latest = tokens.slice(-window);
    values.set(latest, (row + 1) * window - latest.length);
  }
  return values;
}
