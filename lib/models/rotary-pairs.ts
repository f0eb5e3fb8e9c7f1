// Rotary positions rotate pairs of a head's dimensions. A pair is two neighbours in Meta's, llama2.c's and many GGUF
// files, but dimensions i and i + R/2 (R rotated dimensions) in Hugging Face's files. Reordering the rows of the
// projections of queries and keys converts a model from one pairing to the other: both change alike, so that their
// products, the scores, stay the same.

/** Sizes of a projection whose rows are reordered. */
export interface RotaryRows {
  /** Number of heads in the projection. */
  heads: number;
  /** D, the size of a head. */
  headSize: number;
  /** R, the number of dimensions of a head that are rotated: its first ones. */
  rotarySize: number;
}

/** Reorders rows [H·D, …] whose pairs are neighbours, so that halves become the pairs; returns a copy. */
export function neighboursToHalves(values: Float32Array, rows: RotaryRows): Float32Array {
  return reorder(values, rows, (pair, second) => [2 * pair + second, pair + (second * rows.rotarySize) / 2]);
}

/** Reorders rows [H·D, …] whose pairs are halves, so that neighbours become the pairs; returns a copy. */
export function halvesToNeighbours(values: Float32Array, rows: RotaryRows): Float32Array {
  return reorder(values, rows, (pair, second) => [pair + (second * rows.rotarySize) / 2, 2 * pair + second]);
}

/** Copies rows; `move` returns the old and new row of a pair's first (second = 0) and second (1) dimension. */
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
