/** The largest of these numbers, and at least 0; `Math.max(...values)` overflows the stack with some 100,000 of them. */
export function largest(values: Iterable<number>): number {
  let most = 0;
  for (const value of values) most = Math.max(most, value);
  return most;
}
