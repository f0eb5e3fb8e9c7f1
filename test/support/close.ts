import { expect } from "vitest";
import { maxAbs } from "./nd.js";

/** Unit roundoff of float32: what one rounding may change a number by, relatively. */
export const u = 2 ** -24;

/** How far a result may be off, in units of u or of another type's roundoff. */
export interface Tolerance {
  /** Of each element. */
  relative: number;
  /** Of the largest element, or of `scale` where that is larger. */
  absolute: number;
  /** The size of the terms that an element is made of, where they cancel; 0 unless given. */
  scale?: number;
}

/** `unit`: what the tolerance counts in. */
export function bound(
  { relative, absolute, scale = 0 }: Tolerance,
  expected: number,
  largest: number,
  unit = u,
): number {
  return unit * (relative * Math.abs(expected) + absolute * Math.max(scale, largest));
}

/** Every element within the tolerance; what is not finite must be the same. */
export function expectClose(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance,
  largest = maxAbs(expected),
): void {
  expectWithin(label, actual, expected, (want) => bound(tolerance, want, largest));
}

/** Every element within that share of the largest. */
export function expectNear(
  label: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  const allowed = tolerance * maxAbs(expected);
  expectWithin(label, actual, expected, () => allowed);
}

/** Every element as close to what is expected as `allowed` says of it; what is not finite must be the same. */
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
