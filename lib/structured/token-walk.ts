// The walk over a vocabulary, as far as the states are known: most of the time that it takes to find tokens is spent here.
import { pieceBits, plainSets, type StateTable, withinPiece } from "./state-table.js";
import type { TokenNodes, TokenTrie } from "./token-trie.js";
import type { Visit } from "./visit.js";

/** Number of a state that no text goes on from. */
export const dead = 1;

/**
 * Walks over the nodes from `first` to `end` and sets the bits of the tokens at which there is a state. `visit.path` has the
 * states before them. Returns the node at which it has stopped, because its state is not known or has not been counted.
 * Nodes at which the rule of an unknown caller may end are added to `pops`, unless all of their tokens may follow anyway.
 */
export function walkTokens(
  { bytes, depths, further, ends, firsts, ids, plain }: TokenNodes,
  { next, rows, open, reach, twins, plain: mayFollow }: StateTable,
  { seen, path }: Visit,
  { first, end }: { readonly first: number; readonly end: number },
  bits: Int32Array,
  pops: number[] | null,
): number {
  const [free, letters, words] = plain as [Uint8Array, Uint8Array, Uint8Array];
  let node = first;
  while (node < end) {
    const level = depths[node]!;
    const from = path[level - 1]!;
    const after = ends[node]!;
    // All tokens below consist of characters that may follow.
    const counts = plainSets * from;
    const isWhole =
      free[node]! <= mayFollow[counts]! ||
      letters[node]! <= mayFollow[counts + 1]! ||
      words[node]! <= mayFollow[counts + 2]!;
    let last = after;
    if (!isWhole) {
      const row = rows[from]!;
      let to = next[row >> pieceBits]![(row & withinPiece) + bytes[node]!]!;
      if (to === dead) {
        node = after;
        continue;
      }
      if (to === 0 || seen[to] !== 1) return node;
      last = node + 1;
      if (last < after && further[node]! <= reach[to]!) {
        to = twins[to]!;
        if (to === 0 || seen[to] !== 1) return node;
      }
      path[level] = to;
      if (pops !== null && last < after && open[to] === 1) pops.push(node);
    }
    const lastId = firsts[last]!;
    for (let i = firsts[node]!; i < lastId; i++) {
      const id = ids[i]!;
      bits[id >> 5]! |= 1 << (id & 31);
    }
    node = last;
  }
  return node;
}

/**
 * Returns the nodes below some others at which a text may go on with one of the bytes, or null if it is faster to look at
 * all that is below them. `parents` are sorted.
 */
export function nodesAfter(
  { byByte, byteStarts, parents: parentOf }: TokenTrie,
  parents: Int32Array,
  ranges: readonly { readonly low: number; readonly high: number }[],
): number[] | null {
  const isPossible = new Uint8Array(256);
  for (const { low, high } of ranges) isPossible.fill(1, low, high + 1);
  let count = 0;
  for (let one = 0; one < 256; one++) if (isPossible[one]) count += byteStarts[one + 1]! - byteStarts[one]!;
  if (count >= parents.length) return null;
  const found: number[] = [];
  for (let one = 0; one < 256; one++) {
    if (!isPossible[one]) continue;
    for (let i = byteStarts[one]!; i < byteStarts[one + 1]!; i++)
      if (isIn(parents, parentOf[byByte[i]!]!)) found.push(byByte[i]!);
  }
  return found;
}

/** Returns true if a sorted list has a number. */
function isIn(sorted: Int32Array, one: number): boolean {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < one) low = middle + 1;
    else high = middle;
  }
  return low < sorted.length && sorted[low] === one;
}
