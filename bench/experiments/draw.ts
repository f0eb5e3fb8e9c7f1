/** Returns a random integer from 0 to n − 1. */
export type Draw = (n: number) => number;

/** Returns a source of random integers (xorshift, Marsaglia 2003). The seed must not be 0. */
export function drawFrom(seed: number): Draw {
  let state = seed;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

/** Returns the elements of a list in a random order. */
export function shuffled<T>(source: readonly T[], draw: Draw): T[] {
  const list = [...source];
  for (let i = list.length - 1; i > 0; i--) {
    const j = draw(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}

/** Returns a source of numbers with a standard normal distribution (Box & Muller 1958). */
export function normalFrom(draw: Draw): () => number {
  const share = (): number => (draw(2 ** 31) + 0.5) / 2 ** 31;
  return () => Math.sqrt(-2 * Math.log(share())) * Math.cos(2 * Math.PI * share());
}
