// Ranges of a text: its untrusted parts, which come from whoever speaks to the model and not from the template. They are
// in order, are not empty, and have characters between them.

/** The UTF-16 units `from` up to, but not including, `to`. */
export type Range = readonly [from: number, to: number];
export type Ranges = readonly Range[];

export const noRanges: Ranges = [];

/** Returns the index of the first range that ends behind a place. */
function firstBehind(ranges: Ranges, place: number): number {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle]![1] > place) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Returns true if one of the ranges has a unit in the range `from` to `to`. */
export function overlaps(ranges: Ranges, from: number, to: number): boolean {
  return (ranges[firstBehind(ranges, from)]?.[0] ?? Infinity) < to;
}

/** Returns the ranges of the part `from` to `to` of a text, counted from the part's beginning. */
export function rangesWithin(ranges: Ranges, from: number, to: number): Ranges {
  if (ranges.length === 0) return noRanges;
  const within: Range[] = [];
  for (let i = firstBehind(ranges, from); i < ranges.length && ranges[i]![0] < to; i++)
    within.push([Math.max(0, ranges[i]![0] - from), Math.min(to, ranges[i]![1]) - from]);
  return within;
}

/** Appends ranges, moved by a number of units, to a list. Ranges that meet become one. */
export function appendRanges(list: [number, number][], ranges: Ranges, by: number): void {
  for (const [from, to] of ranges) {
    const last = list.at(-1);
    if (last?.[1] === from + by) last[1] = to + by;
    else list.push([from + by, to + by]);
  }
}
