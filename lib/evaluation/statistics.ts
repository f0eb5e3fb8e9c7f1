// Values of metrics over documents, with their standard errors.
import { hash } from "../util/hash.js";

/** A value and its standard error; null if there are too few documents to know it. */
export interface Estimate {
  readonly value: number;
  readonly stderr: number | null;
}

/** Returns the mean of some numbers, and its standard error: their standard deviation over √n. */
export function meanOf(values: readonly number[]): Estimate {
  const n = values.length;
  const value = values.reduce((sum, x) => sum + x, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - value) ** 2, 0);
  return { value, stderr: n > 1 ? Math.sqrt(squares / (n - 1) / n) : null };
}

/**
 * Returns Σ a / Σ b over documents, and its standard error by linearisation: the documents' residuals a − ratio · b
 * are treated as a sample (Cochran 1977, §2.11).
 */
export function ratioOf(pairs: readonly (readonly [a: number, b: number])[]): Estimate {
  const n = pairs.length;
  const a = pairs.reduce((sum, [x]) => sum + x, 0);
  const b = pairs.reduce((sum, [, x]) => sum + x, 0);
  const value = a / b;
  const squares = pairs.reduce((sum, [x, y]) => sum + (x - value * y) ** 2, 0);
  return { value, stderr: n > 1 ? Math.sqrt((n / (n - 1)) * squares) / b : null };
}

/** Returns e^x of an estimate; its standard error follows from the derivative. */
export function expOf({ value, stderr }: Estimate): Estimate {
  const exp = Math.exp(value);
  return { value: exp, stderr: stderr === null ? null : exp * stderr };
}

/** Returns an estimate times a number. */
export function scaled({ value, stderr }: Estimate, factor: number): Estimate {
  return { value: value * factor, stderr: stderr === null ? null : stderr * Math.abs(factor) };
}

/** Number of samples of a bootstrap. */
const samples = 500;

/**
 * Returns the value of a statistic of a whole corpus, and its standard error by the bootstrap (Efron 1979): the standard
 * deviation over corpora of documents that are drawn from this one with replacement. The draws follow from a fixed seed.
 */
export function bootstrapOf<T>(documents: readonly T[], statistic: (documents: readonly T[]) => number): Estimate {
  const value = statistic(documents);
  const n = documents.length;
  if (n < 2) return { value, stderr: null };
  const values = Array.from({ length: samples }, (_, sample) =>
    statistic(Array.from({ length: n }, (_, i) => documents[Math.floor(((hash(sample, i) >>> 0) / 2 ** 32) * n)]!)),
  );
  const mean = values.reduce((sum, x) => sum + x, 0) / samples;
  return { value, stderr: Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (samples - 1)) };
}
