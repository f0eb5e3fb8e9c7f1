import { expect } from "vitest";
import { maxAbs } from "./nd.js";

/** Unit roundoff of float32: the relative change of a number by one rounding is at most this. */
export const u = 2 ** -24;

/** Allowed error of a result, in units of u or of another type's roundoff. */
export interface Tolerance {
  /** Error relative to each element. */
  relative: number;
  /** Error relative to the largest element, or to `scale` if that is larger. */
  absolute: number;
  /** Size of the terms that are added to an element, if they cancel. @default 0 */
  scale?: number;
}

/** Returns the largest allowed error of a number. `unit` is the unit of the tolerance. */
export function bound(
  { relative, absolute, scale = 0 }: Tolerance,
  expected: number,
  largest: number,
  unit = u,
): number {
  return unit * (relative * Math.abs(expected) + absolute * Math.max(scale, largest));
}

/** Expects that every element is within the tolerance; elements that are not finite must be equal. */
export function expectClose(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
  largest = maxAbs(expected),
): void {
  expectWithin(label, actual, expected, (want) => bound(tolerance, want, largest));
}

/** Expects that the error of every element is at most this share of the largest element. */
export function expectNear(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  const allowed = tolerance * maxAbs(expected);
  expectWithin(label, actual, expected, () => allowed);
}

/**
 * Expects that the error of every element is at most what `allowed` returns for it; elements that are not finite must
 * be equal.
 */
export function expectWithin(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  allowed: (expected: number) => number,
): void {
  expect(actual.length, `${label}: number of elements`).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const [got, want] = [actual[i]!, expected[i]!];
    const error = Math.abs(got - want);
    if (Object.is(got, want) || error <= allowed(want)) continue;
    const times = (error / allowed(want)).toPrecision(3);
    expect.fail(`${label}: expected ${want} at ${i}, got ${got}: off by ${times} times what is allowed`);
  }
}
