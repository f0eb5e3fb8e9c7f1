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

/** Largest spread of runs that count as undisturbed. */
export const widestSpread = 0.15;

/** Returns the distance between the quartiles as a share of the median. */
export function spreadOf({ median, quartiles: [first, third] }: Statistics): number {
  return (third - first) / median;
}

/** Returns a time as it is shown: "0.8308", "11,140". */
export const timeText = (ms: number): string => ms.toLocaleString("en", { maximumSignificantDigits: 4 });

/** Returns the median and the fastest run, and a dagger if the runs spread widely: "7.61 / 7.44 †". */
export function timesText(times: Statistics): string {
  return `${timeText(times.median)} / ${timeText(times.min)}${daggerOf(times)}`;
}

/** Returns the mark of runs that spread widely, or an empty text. */
export function daggerOf(times: Statistics): string {
  return spreadOf(times) > widestSpread ? " †" : "";
}
