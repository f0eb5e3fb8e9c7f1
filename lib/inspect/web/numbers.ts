/** Returns a share as a percentage. */
export function percent(share: number): string {
  const percentage = 100 * share;
  return percentage > 0 && percentage < 0.05 ? "< 0.1 %" : `${percentage.toFixed(1)} %`;
}

/** Returns the number of digits after the point that numbers up to `largest` need. */
export function digitsFor(largest: number): number {
  return Math.min(8, Math.max(2, 2 - Math.floor(Math.log10(Math.max(1e-9, largest) * 5))));
}

/** Returns a number with its sign. */
export function signed(value: number, digits = 2): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return value < 0 ? `−${text}` : `+${text}`;
}
