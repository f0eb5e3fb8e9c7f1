/**
 * Philox4x32-10 (Salmon et al. 2011), written from the paper. heed's random operations must draw the same numbers. Word
 * e % 4 of block e / 4 belongs to element e; the seed is the key.
 */
export function philox(seed: number, block: number, stream = 0): [number, number, number, number] {
  const low = (x: bigint): bigint => x & 0xffffffffn;
  const high = (x: bigint): bigint => x >> 32n;
  let [k0, k1] = [low(BigInt(seed)), high(BigInt(seed))];
  let [c0, c1, c2, c3] = [low(BigInt(block)), high(BigInt(block)), low(BigInt(stream)), high(BigInt(stream))];
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [0xd2511f53n * c0, 0xcd9e8d57n * c2];
    [c0, c1, c2, c3] = [high(p1) ^ c1 ^ k0, low(p1), high(p0) ^ c3 ^ k1, low(p0)];
    [k0, k1] = [low(k0 + 0x9e3779b9n), low(k1 + 0xbb67ae85n)];
  }
  return [Number(c0), Number(c1), Number(c2), Number(c3)];
}

/** Philox's stream for each purpose, so that with one seed each of them gets numbers of its own. */
export const draws = { tensors: 0, dropout: 1, sampling: 2 } as const;

/** Returns the words of elements 0 to n − 1. */
export function philoxWords(seed: number, n: number, stream: number = draws.tensors): number[] {
  return Array.from({ length: Math.ceil(n / 4) }, (_, block) => philox(seed, block, stream))
    .flat()
    .slice(0, n);
}

/** Returns a number in [0, 1) with 24 bits. */
export const uniform01 = (word: number): number => (word >>> 8) / 2 ** 24;
