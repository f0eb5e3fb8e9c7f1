/**
 * Mixes 32 bits of `value` into `state` and returns the new state. The finaliser of MurmurHash3 (Appleby 2011) spreads
 * the bits.
 */
export function hash(state: number, value: number): number {
  let h = Math.imul(state, 31) + 0x9e3779b9 + (value | 0);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
