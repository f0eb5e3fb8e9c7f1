/** Statistics of ranks. */

/**
 * Returns Kendall's τ-b of two lists of numbers: 1 if they have the same order, −1 if the opposite one, 0 by chance. If
 * all numbers of a list are equal, it is 0.
 */
export function kendallTau(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [balance, inA, inB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++)
    for (let j = 0; j < i; j++) {
      const [x, y] = [Math.sign(a[i]! - a[j]!), Math.sign(b[i]! - b[j]!)];
      balance += x * y;
      inA += x ** 2;
      inB += y ** 2;
    }
  return inA === 0 || inB === 0 ? 0 : balance / Math.sqrt(inA * inB);
}

/** Returns the middle of the sorted numbers. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)]!, sorted[Math.ceil((sorted.length - 1) / 2)]!];
  return (low + high) / 2;
}
