/**
 * Returns the largest of these numbers, at least 0. `Math.max(...values)` overflows the stack for about 100,000
 * numbers.
 */
export function largest(values: Iterable<number>): number {
  let most = 0;
  for (const value of values) most = Math.max(most, value);
  return most;
}
