/** Statistics of one contender's runs, in milliseconds. */
export interface Statistics {
  median: number;
  /** First and third quartile. Half of the runs lie between them. */
  quartiles: [number, number];
  min: number;
  runs: number;
}

export const rounded = (value: number): number => Number(value.toPrecision(4));

/** Returns the value below which a share of the sorted values lies, with linear interpolation. */
function quantile(sorted: readonly number[], share: number): number {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const [a, b] = [sorted[low]!, sorted[Math.min(low + 1, sorted.length - 1)]!];
  return rounded(a + (b - a) * (at - low));
}

export function statistics(values: readonly number[]): Statistics {
  const sorted = [...values].sort((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    quartiles: [quantile(sorted, 0.25), quantile(sorted, 0.75)],
    min: quantile(sorted, 0),
    runs: sorted.length,
  };
}
