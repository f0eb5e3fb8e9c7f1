// Prompts of linear regression, and what known methods answer to them (Garg et al. 2022, arXiv:2208.01066).
import { Matrix, solve } from "ml-matrix";
import type { Draw } from "./draw.js";
import { normalFrom } from "./draw.js";

/** Prompts: `points` inputs x with their values y = w·x, and a task w of its own for each prompt. */
export interface Prompts {
  rows: number;
  points: number;
  dimensions: number;
  /** Inputs, [rows · points · dimensions]. */
  x: Float32Array;
  /** Values that the prompt shows, [rows · points]. */
  y: Float32Array;
  /** Values without noise, [rows · points]. */
  truth: Float32Array;
}

/** Differences from the prompts of training. */
export interface Shift {
  /** Standard deviation of noise that is added to the values that a prompt shows. @default 0 */
  noise?: number;
  /** Factor of the inputs. @default 1 */
  scale?: number;
}

/** Returns random prompts: x and w are normal with a variance of 1, unless `shift` says otherwise. */
export function drawPrompts(
  { rows, points, dimensions }: Pick<Prompts, "rows" | "points" | "dimensions">,
  draw: Draw,
  { noise = 0, scale = 1 }: Shift = {},
): Prompts {
  const normal = normalFrom(draw);
  const x = Float32Array.from({ length: rows * points * dimensions }, () => scale * normal());
  const truth = new Float32Array(rows * points);
  for (let row = 0; row < rows; row++) {
    const w = Array.from({ length: dimensions }, normal);
    for (let i = 0; i < points; i++) {
      const at = row * points + i;
      truth[at] = w.reduce((sum, value, c) => sum + value * x[at * dimensions + c]!, 0);
    }
  }
  const y = noise === 0 ? truth : truth.map((value) => value + noise * normal());
  return { rows, points, dimensions, x, y, truth };
}

/** Method that answers with the value at `query` after some examples. */
export type Method = (x: number[][], y: number[], query: number[]) => number;

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

/**
 * Returns ridge regression with the penalty λ‖w‖², which is the best answer to values with noise of variance λ. With a λ
 * near 0 it is least squares, of the shortest w if there are too few examples.
 */
export function ridge(penalty: number): Method {
  return (x, y, query) => {
    if (x.length === 0) return 0;
    const moment = query.map((_, i) =>
      query.map((_, j) => x.reduce((sum, row) => sum + row[i]! * row[j]!, i === j ? penalty : 0)),
    );
    const along = query.map((_, i) => [x.reduce((sum, row, n) => sum + row[i]! * y[n]!, 0)]);
    return dot(solve(new Matrix(moment), new Matrix(along)).to1DArray(), query);
  };
}

/** Answers with the mean value of the three nearest inputs. */
export const nearest: Method = (x, y, query) => {
  const distance = (row: readonly number[]): number => row.reduce((sum, value, i) => sum + (value - query[i]!) ** 2, 0);
  const order = [...x.keys()].sort((a, b) => distance(x[a]!) - distance(x[b]!)).slice(0, 3);
  return order.length === 0 ? 0 : order.reduce((sum, n) => sum + y[n]!, 0) / order.length;
};

/** Answers with one step of gradient descent from w = 0, of the length 1: w = Σ y·x / n. */
export const gradientStep: Method = (x, y, query) =>
  x.length === 0 ? 0 : x.reduce((sum, row, n) => sum + y[n]! * dot(row, query), 0) / x.length;

/** Returns a method's answers at each point of each prompt after the points before it, [rows · points]. */
export function answersOf({ rows, points, dimensions, x, y }: Prompts, method: Method): Float32Array {
  const answers = new Float32Array(rows * points);
  for (let row = 0; row < rows; row++) {
    const inputs = Array.from({ length: points }, (_, i) => {
      const at = (row * points + i) * dimensions;
      return [...x.subarray(at, at + dimensions)];
    });
    const values = [...y.subarray(row * points, (row + 1) * points)];
    for (let i = 0; i < points; i++)
      answers[row * points + i] = method(inputs.slice(0, i), values.slice(0, i), inputs[i]!);
  }
  return answers;
}

/** Returns the answers times the factor that is best after each number of examples. */
export function bestScaled({ rows, points, truth }: Prompts, answers: Float32Array): Float32Array {
  const factors = Array.from({ length: points }, (_, i) => {
    let [along, square] = [0, 0];
    for (let row = 0; row < rows; row++) {
      const answer = answers[row * points + i]!;
      along += answer * truth[row * points + i]!;
      square += answer ** 2;
    }
    return square === 0 ? 0 : along / square;
  });
  return answers.map((answer, at) => answer * factors[at % points]!);
}

/**
 * Returns the mean squared difference between two lists of answers after 0, 1, … examples, divided by the variance of the
 * values.
 */
export function differencesOf(
  { rows, points, truth }: Prompts,
  answers: ArrayLike<number>,
  others: ArrayLike<number>,
): number[] {
  return Array.from({ length: points }, (_, i) => {
    let [difference, square] = [0, 0];
    for (let row = 0; row < rows; row++) {
      const at = row * points + i;
      difference += (answers[at]! - others[at]!) ** 2;
      square += truth[at]! ** 2;
    }
    return difference / square;
  });
}

/** Returns the mean squared error after 0, 1, … examples. That of an answer of 0 is 1. */
export function errorsOf(prompts: Prompts, answers: ArrayLike<number>): number[] {
  return differencesOf(prompts, answers, prompts.truth);
}
