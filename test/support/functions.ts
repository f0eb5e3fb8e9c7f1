/** Functions in float64, for references. */
import type { Activation } from "../../lib/ops/activation.js";

/**
 * Returns ∫₀ˣ 2/√π·e^(−t²) dt by its series of positive terms (Abramowitz & Stegun 7.1.6), or by the continued fraction
 * of erfc beyond 4.
 */
export function erf(x: number): number {
  if (x < 0) return -erf(-x);
  if (x > 6) return 1;
  if (x > 4) {
    let fraction = 0;
    for (let k = 60; k >= 1; k--) fraction = k / 2 / (x + fraction);
    return 1 - Math.exp(-x * x) / (Math.sqrt(Math.PI) * (x + fraction));
  }
  let term = x;
  let sum = x;
  for (let n = 1; term > sum * 1e-17; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
export const relu = (x: number): number => Math.max(x, 0);
export const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
/** λ and α are those of Klambauer et al. 2017. */
export const selu = (x: number): number => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x));
export const silu = (x: number): number => x * sigmoid(x);
export const geluErf = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));
/** 0.5·(1 + tanh(z)) is σ(2z), which loses no digits if tanh is near −1. */
export const geluTanh = (x: number): number => x * sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3));

export const byActivation: Readonly<Record<Activation, (x: number) => number>> = {
  none: (x) => x,
  relu,
  gelu: geluTanh,
  geluErf,
  silu,
  sigmoid,
};

/** Returns the logarithms of the softmax of a row of logits. */
export function logSoftmax(logits: ArrayLike<number>): number[] {
  const row = Array.from(logits);
  const largest = Math.max(...row);
  const total = Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  return row.map((value) => value - largest - total);
}
