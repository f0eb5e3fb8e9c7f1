/** Returns an exponentially smoothed curve. Its first values are means of those there are, so that it begins unbiased. */
export function smooth(values: readonly (number | null)[], factor: number): (number | null)[] {
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    if (value === null || !Number.isFinite(value)) return null;
    sum = factor * sum + (1 - factor) * value;
    weight = factor * weight + (1 - factor);
    return weight === 0 ? value : sum / weight;
  });
}
