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
  visit: Visit,
  { first, end }: { readonly first: number; readonly end: number },
  bits: Int32Array,
  pops: number[] | null,
): number {
  const { seen, path } = visit;
  const [free, letters, words] = plain as [Uint8Array, Uint8Array, Uint8Array];
  let node = first;
  let steps = 0;
  for (; node < end; steps++) {
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
      if (to === 0 || seen[to] !== 1) break;
      last = node + 1;
      if (last < after && further[node]! <= reach[to]!) {
        to = twins[to]!;
        if (to === 0 || seen[to] !== 1) break;
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
  visit.steps += steps;
  return node;
}

/** Part of a tree: the nodes from `first` to `end`, which are below one of `depth` bytes. */
export interface TreePart {
  readonly first: number;
  readonly end: number;
  readonly depth: number;
}

/**
 * Returns the parts of a tree that are below some nodes, as far as a text may go on with one of the bytes there. `marks` has
 * a 0 for each node, before and afterwards.
 */
export function partsBelow(
  { byByte, byteStarts, parents, ends, depths }: TokenTrie,
  nodes: readonly Int32Array[],
  ranges: readonly { readonly low: number; readonly high: number }[],
  marks: Uint8Array,
): TreePart[] {
  const isPossible = new Uint8Array(256);
  for (const { low, high } of ranges) isPossible.fill(1, low, high + 1);
  let count = 0;
  for (let one = 0; one < 256; one++) if (isPossible[one]) count += byteStarts[one + 1]! - byteStarts[one]!;
  const found: TreePart[] = [];
  const isFast = count < nodes.reduce((sum, { length }) => sum + length, 0);
  for (const list of nodes)
    for (const node of list) {
      if (!isFast && marks[node] === 0) found.push({ first: node + 1, end: ends[node]!, depth: depths[node]! });
      marks[node] = 1;
    }
  // Most rules end at thousands of nodes, and few of these are followed by a byte with which a caller goes on.
  for (let one = 0; isFast && one < 256; one++) {
    if (!isPossible[one]) continue;
    for (let i = byteStarts[one]!; i < byteStarts[one + 1]!; i++) {
      const node = byByte[i]!;
      const parent = parents[node]!;
      if (parent >= 0 && marks[parent] === 1) found.push({ first: node, end: ends[node]!, depth: depths[node]! - 1 });
    }
  }
  for (const list of nodes) for (const node of list) marks[node] = 0;
  return found;
}
