import { HeedError } from "../util/errors.js";

/** Distribution of numbers, as TensorFlow's HistogramProto holds it. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  readonly count: number;
  readonly sum: number;
  /** Sum of the squares. */
  readonly squares: number;
  /** Largest number of each bucket, in ascending order. */
  readonly limits: readonly number[];
  /** Number of numbers in each bucket. */
  readonly counts: readonly number[];
}

/** Number of buckets. */
const buckets = 30;

/**
 * Returns the distribution of finite numbers over buckets of equal width.
 *
 * @throws ERR_ARGUMENT if no number is finite.
 */
export function histogramOf(values: ArrayLike<number>): Histogram {
  const finite = Array.from(values).filter(Number.isFinite);
  if (finite.length === 0) throw new HeedError("ERR_ARGUMENT", "TensorBoard: expected finite numbers, got none");
  let [min, max, sum, squares] = [Infinity, -Infinity, 0, 0];
  for (const value of finite) {
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
    squares += value * value;
  }
  const width = (max - min) / buckets;
  if (width === 0) return { min, max, count: finite.length, sum, squares, limits: [max], counts: [finite.length] };
  const counts = Array<number>(buckets).fill(0);
  for (const value of finite) counts[Math.min(buckets - 1, Math.floor((value - min) / width))]!++;
  const limits = counts.map((_, i) => (i === buckets - 1 ? max : min + (i + 1) * width));
  return { min, max, count: finite.length, sum, squares, limits, counts };
}
