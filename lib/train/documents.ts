import type { Batch } from "./batches.js";

/**
 * The lengths of the documents in each sequence [B, T] of a batch, each of which begins with the token `start`; what
 * comes before the first is the end of an earlier one.
 */
export function documentsOf({ inputs }: Batch, batchSize: number, start: number): number[][] {
  const length = inputs.length / batchSize;
  return Array.from({ length: batchSize }, (_, b) => {
    const row = inputs.subarray(b * length, (b + 1) * length);
    const starts = [0];
    for (let t = 1; t < length; t++) if (row[t] === start) starts.push(t);
    return starts.map((from, i) => (starts[i + 1] ?? length) - from);
  });
}
