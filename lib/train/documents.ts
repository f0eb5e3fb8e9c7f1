import type { Batch } from "./batches.js";

/**
 * Returns the lengths of the documents in each of the B sequences of a batch. Each document begins with the token
 * `start`; the tokens before the first `start` are the end of an earlier document and count as one.
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
