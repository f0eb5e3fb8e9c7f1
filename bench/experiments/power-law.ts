// Fits of power laws to losses (Kaplan et al. 2020, arXiv:2001.08361; Hoffmann et al. 2022, arXiv:2203.15556).
import { Matrix, solve } from "ml-matrix";

/** Line y = intercept + slope · x. */
export interface Line {
  intercept: number;
  slope: number;
  /** Share of the variance of y that the line explains. */
  explained: number;
}

/** Returns the line through points with the least squared distances in y. */
export function fitLine(points: readonly (readonly [number, number])[]): Line {
  const mean = (of: (point: readonly [number, number]) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean(([x]) => x), mean(([, y]) => y)];
  const [xx, xy, yy] = [
    mean((p) => (p[0] - x) ** 2),
    mean((p) => (p[0] - x) * (p[1] - y)),
    mean((p) => (p[1] - y) ** 2),
  ];
  const slope = xx === 0 ? 0 : xy / xx;
  return { intercept: y - slope * x, slope, explained: yy === 0 ? 1 : (slope * xy) / yy };
}

/** Loss of a model of N parameters after D tokens. */
export interface LossPoint {
  parameters: number;
  tokens: number;
  loss: number;
}

/** Law L(N, D) = E + A/N^α + B/D^β (Hoffmann et al. 2022, equation 2). */
export interface LossLaw {
  irreducible: number;
  a: number;
  b: number;
  alpha: number;
  beta: number;
  /** Root of the mean squared relative error over the points. */
  error: number;
}

/** Returns the loss that a law gives to a model of N parameters after D tokens. */
export function lossBy(law: LossLaw, parameters: number, tokens: number): number {
  return law.irreducible + law.a / parameters ** law.alpha + law.b / tokens ** law.beta;
}

/**
 * Returns the law with the least squared relative errors. For each pair of exponents, E, A and B follow from linear
 * equations; the exponents are searched on a grid that becomes finer around the best pair. None of E, A and B is negative.
 */
export function fitLossLaw(points: readonly LossPoint[]): LossLaw {
  let best: LossLaw | null = null;
  let [low, high] = [
    [0.05, 0.05],
    [1.5, 1.5],
  ] as [[number, number], [number, number]];
  for (let step = 0.05; step > 0.001; step /= 5) {
    for (let alpha = low[0]; alpha <= high[0] + 1e-9; alpha += step)
      for (let beta = low[1]; beta <= high[1] + 1e-9; beta += step) {
        const law = lawWith(points, alpha, beta);
        if (!best || law.error < best.error) best = law;
      }
    const near = (center: number, sign: number): number => Math.max(0.01, center + sign * step);
    low = [near(best!.alpha, -1), near(best!.beta, -1)];
    high = [near(best!.alpha, 1), near(best!.beta, 1)];
  }
  return best!;
}

/** Returns the law with these exponents. */
function lawWith(points: readonly LossPoint[], alpha: number, beta: number): LossLaw {
  // Scaled by the middle of the data, so that the equations are well conditioned.
  const [n, d] = [points[0]!.parameters, points[0]!.tokens];
  const columns = points.map(({ parameters, tokens }) => [1, (n / parameters) ** alpha, (d / tokens) ** beta]);
  const [e, a, b] = nonNegative(
    columns.map((row, i) => row.map((value) => value / points[i]!.loss)),
    [0, 1, 2],
  );
  const law = { irreducible: e!, a: a! * n ** alpha, b: b! * d ** beta, alpha, beta };
  const squares = points.map(
    ({ parameters, tokens, loss }) => (lossBy({ ...law, error: 0 }, parameters, tokens) / loss - 1) ** 2,
  );
  return { ...law, error: Math.sqrt(squares.reduce((sum, value) => sum + value, 0) / points.length) };
}

/** Returns the coefficients ≥ 0 of three columns whose sum is nearest to 1 in every row; unused columns have 0. */
function nonNegative(rows: readonly number[][], used: readonly number[]): number[] {
  const moment = used.map((i) =>
    used.map((j) => rows.reduce((sum, row) => sum + row[i]! * row[j]!, i === j ? 1e-12 : 0)),
  );
  const along = used.map((i) => [rows.reduce((sum, row) => sum + row[i]!, 0)]);
  const found = solve(new Matrix(moment), new Matrix(along)).to1DArray();
  const worst = found.indexOf(Math.min(...found));
  if (found[worst]! < 0 && used.length > 1)
    return nonNegative(
      rows,
      used.filter((_, i) => i !== worst),
    );
  const coefficients = [0, 0, 0];
  used.forEach((column, i) => (coefficients[column] = Math.max(0, found[i]!)));
  return coefficients;
}
