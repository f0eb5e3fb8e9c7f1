// Multisets of texts, as a Map from each text to how often it occurs.

/** Returns how often each text occurs. */
export function countsOf(texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}

/** Returns the size of a multiset. */
export function totalOf(counts: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const count of counts.values()) total += count;
  return total;
}

/** Returns the size of the part that two multisets have in common. */
export function overlapOf(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  let overlap = 0;
  for (const [text, count] of a) overlap += Math.min(count, b.get(text) ?? 0);
  return overlap;
}
