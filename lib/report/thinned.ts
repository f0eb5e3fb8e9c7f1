import type { TrainingRun } from "./training-run.js";

/**
 * Returns a run whose curves have at most `most` points. Neighbouring steps become one with the mean of their values, and
 * with the largest norm of their gradients, so that no spike disappears.
 */
export function thinned(run: TrainingRun, most: number): TrainingRun {
  const { step, seconds, loss, lr, gradientNorm, tokensPerSecond } = run.steps;
  const size = Math.ceil(step.length / most);
  if (size <= 1) return run;
  const groups = <T>(values: readonly T[]): T[][] =>
    Array.from({ length: Math.ceil(values.length / size) }, (_, i) => values.slice(i * size, (i + 1) * size));
  const means = (values: readonly number[]): number[] =>
    groups(values).map((group) => group.reduce((sum, value) => sum + value, 0) / group.length);
  const lasts = (values: readonly number[]): number[] => groups(values).map((group) => group.at(-1)!);
  const norms = groups(gradientNorm).map((group) => {
    const known = group.filter((value) => value !== null);
    return known.length > 0 ? Math.max(...known) : null;
  });
  return {
    ...run,
    steps: {
      ...{ step: lasts(step), seconds: lasts(seconds), loss: means(loss), lr: means(lr) },
      ...{ gradientNorm: norms, tokensPerSecond: means(tokensPerSecond) },
    },
  };
}
