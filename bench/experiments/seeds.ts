/** Means over seeds with their intervals, for experiments that train a model several times. */
import { percent, round } from "./experiment.js";

/** Two-sided 95 % quantiles of Student's t distribution for 1, 2, … degrees of freedom. */
const quantiles = [12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

/** Returns the mean of numbers; 0 if there are none. */
export function meanOf(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Returns the mean of one value per seed and the half-width of its 95 % confidence interval (Student's t). */
export function intervalOf(values: readonly number[]): { mean: number; margin: number } {
  const mean = meanOf(values);
  const freedom = values.length - 1;
  if (freedom < 1) return { mean, margin: NaN };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / freedom;
  const quantile = quantiles[Math.min(freedom, quantiles.length) - 1]!;
  return { mean, margin: quantile * Math.sqrt(variance / values.length) };
}

/** Returns the text "mean ± margin" for one value per seed. */
export function withMargin(values: readonly number[]): string {
  const { mean, margin } = intervalOf(values);
  return Number.isNaN(margin) ? String(round(mean)) : `${round(mean)} ± ${margin.toPrecision(2)}`;
}

/** Returns the text "mean ± margin" in per cent for one share per seed. */
export function percentWithMargin(values: readonly number[]): string {
  const { mean, margin } = intervalOf(values);
  if (Number.isNaN(margin)) return percent(mean, 1);
  return `${percent(mean, 1).replace(" %", "")} ± ${percent(margin, 1)}`;
}

/** Returns the differences of two lists of values, seed by seed. */
export function minus(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => value - b[i]!);
}

/**
 * Returns what one difference per seed tells: 1 if it is above 0, −1 if it is below, and 0 if its 95 % confidence interval
 * contains 0 or there are too few seeds for one.
 */
export function clearSign(differences: readonly number[]): number {
  const { mean, margin } = intervalOf(differences);
  return Math.abs(mean) > margin ? Math.sign(mean) : 0;
}
