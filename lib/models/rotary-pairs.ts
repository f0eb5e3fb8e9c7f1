// Rotary positions turn pairs of a head's dimensions: neighbours, as in Meta's, llama2.c's and many GGUF files, or a
// dimension and the one half of them further on, as in Hugging Face's. A projection whose rows are put in the other order
// gives the same model with the other pairing: scores are products of queries and keys, which change alike.

export interface RotaryRows {
  heads: number;
  /** D */
  headSize: number;
  /** How many of a head's dimensions are turned: its first. */
  rotarySize: number;
}

/** Rows of heads [H·D, …] whose pairs are neighbours → the same with pairs of halves. */
export function neighboursToHalves(values: Float32Array, rows: RotaryRows): Float32Array {
  return reorder(values, rows, (pair, second) => [2 * pair + second, pair + (second * rows.rotarySize) / 2]);
}

/** Rows of heads [H·D, …] whose pairs are halves → the same with pairs of neighbours. */
export function halvesToNeighbours(values: Float32Array, rows: RotaryRows): Float32Array {
  return reorder(values, rows, (pair, second) => [pair + (second * rows.rotarySize) / 2, 2 * pair + second]);
}

/** `move` says, of a pair's first (0) and second (1) dimension, from which row to which it goes. */
function reorder(
  values: Float32Array,
  { heads, headSize, rotarySize }: RotaryRows,
  move: (pair: number, second: number) => [from: number, to: number],
): Float32Array {
  const row = values.length / (heads * headSize);
  const out = values.slice();
  for (let head = 0; head < heads; head++)
    for (let pair = 0; pair < rotarySize / 2; pair++)
      for (const second of [0, 1]) {
        const [from, to] = move(pair, second).map((index) => (head * headSize + index) * row) as [number, number];
        out.set(values.subarray(from, from + row), to);
      }
  return out;
}
