// Sets of tokens, and the tokens that may follow what is left of a rule.

/** A set of tokens: their ids if they are few, or a bit for each token. */
export type TokenSet = { readonly ids: Int32Array } | { readonly bits: Int32Array };

/** Tokens that may follow an item, as far as its rule decides, and the nodes at which the rule has ended. */
export interface OwnTokens {
  readonly tokens: TokenSet;
  /** True if the rule may end before the first token. */
  readonly ends: boolean;
  readonly pops: Int32Array;
  /** True if `pops` lacks nodes after which no token has another character than those of free texts. */
  readonly lacksFree: boolean;
}

/** Returns the number of bits of a word. */
function countOf(word: number): number {
  let sums = word - ((word >>> 1) & 0x55555555);
  sums = (sums & 0x33333333) + ((sums >>> 2) & 0x33333333);
  return Math.imul((sums + (sums >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Returns the set of tokens that have a bit, in the form that needs less memory. */
export function compact(bits: Int32Array): TokenSet {
  let count = 0;
  for (let i = 0; i < bits.length && count < bits.length; i++) count += countOf(bits[i]!);
  if (count >= bits.length) return { bits };
  const ids = new Int32Array(count);
  let at = 0;
  for (let i = 0; i < bits.length; i++)
    for (let rest = bits[i]!; rest !== 0; rest &= rest - 1) ids[at++] = 32 * i + 31 - Math.clz32(rest & -rest);
  return { ids };
}

/** Sets the bits of the tokens of a set. */
export function addTo(bits: Int32Array, tokens: TokenSet): void {
  if ("bits" in tokens) for (let i = 0; i < bits.length; i++) bits[i]! |= tokens.bits[i]!;
  else for (const id of tokens.ids) bits[id >> 5]! |= 1 << (id & 31);
}

/** Returns the number of bytes of a set. */
export function bytesOf(tokens: TokenSet): number {
  return 200 + ("bits" in tokens ? tokens.bits : tokens.ids).byteLength;
}
