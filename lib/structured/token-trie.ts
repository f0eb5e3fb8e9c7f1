// The tokens of a vocabulary, sorted by their bytes: tokens that begin alike are looked at together.
import { append } from "../util/append.js";
import { largest } from "../util/largest.js";
import type { Steps } from "../util/turns.js";
import { plainLengths } from "./plain-characters.js";
import { PlainTokens, type TokenText } from "./plain-tokens.js";

/** Tokens by their bytes. The nodes of the tree stand in the order of a walk: each before those below it. */
export interface TokenNodes {
  /** Last byte of each node. */
  readonly bytes: Uint8Array;
  /** Number of bytes of each node. */
  readonly depths: Uint16Array;
  /** Largest number of bytes that a token has after each node, at most 255. */
  readonly further: Uint8Array;
  /** Index after the last node below each node. */
  readonly ends: Int32Array;
  /** Node above each node; -1 for the nodes of first bytes. */
  readonly parents: Int32Array;
  /** Index in `ids` of the first token of each node; those of the node end where those of the next one begin. */
  readonly firsts: Int32Array;
  readonly ids: Int32Array;
  /** Largest number of characters of the tokens of each node from its own byte on, for each set; see `plainLengths`. */
  readonly plain: readonly Uint8Array[];
}

/** All tokens of a vocabulary. */
export interface TokenTrie extends TokenNodes {
  /** V, the number of tokens of the model, of which those without bytes are in no node. */
  readonly size: number;
  /** Bytes of each token; none for a token that no text contains. */
  readonly tokens: readonly Uint8Array[];
  /** Number of bytes of the longest token. */
  readonly longest: number;
  /** Nodes sorted by their last bytes; those of a byte begin at its index of `byteStarts` and end where the next ones begin. */
  readonly byByte: Int32Array;
  readonly byteStarts: Int32Array;
  /** Tokens of free texts, and the tree of the others, with the node of the whole tree for each of its nodes. */
  readonly free: PlainTokens;
  readonly others: TokenNodes;
  readonly origins: Int32Array;
}

/** Number of tokens between two pauses. */
const piece = 1024;

/** Returns the tree of the tokens that have bytes. */
export function* tokenTrie(bytesOf: (id: number) => Uint8Array, count: number, size: number): Steps<TokenTrie> {
  const tokens: Uint8Array[] = [];
  const buckets = new Map<string, TokenText[]>();
  for (let id = 0; id < size; id++) {
    const bytes = id < count ? bytesOf(id) : new Uint8Array(0);
    tokens.push(bytes);
    if (id % piece === 0) yield;
    if (bytes.length === 0 || bytes.length > 0xffff) continue;
    // One character for each byte, so that texts are compared as bytes are.
    const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
    const start = key.slice(0, 2);
    const bucket = buckets.get(start);
    if (bucket) bucket.push({ key, id });
    else buckets.set(start, [{ key, id }]);
  }
  const starts = [...buckets.keys()].sort();
  const sorted: TokenText[] = [];
  for (const start of starts) {
    const bucket = buckets.get(start)!;
    bucket.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.id - b.id));
    append(sorted, bucket);
    yield;
  }
  const { free, others: rest } = yield* PlainTokens.from(sorted, size);
  yield;
  const longest = largest(sorted.map(({ key }) => key.length));
  yield;
  const [nodes, others] = [yield* nodesOf(sorted), yield* nodesOf(rest)];
  const origins = nodesIn(nodes, others);
  yield;
  return { size, tokens, longest, ...nodes, ...sortedByByte(nodes.bytes), free, others, origins };
}

function* nodesOf(sorted: readonly TokenText[]): Steps<TokenNodes> {
  const most = sorted.reduce((sum, { key }) => sum + key.length, 0);
  const bytes = new Uint8Array(most);
  const depths = new Uint16Array(most);
  const ends = new Int32Array(most);
  const firsts = new Int32Array(most + 1);
  const parents = new Int32Array(most);
  const path: number[] = [];
  let nodes = 0;
  let before = "";
  for (const [i, { key }] of sorted.entries()) {
    if (i % piece === 0) yield;
    let shared = 0;
    while (shared < before.length && shared < key.length && before[shared] === key[shared]) shared++;
    while (path.length > shared) ends[path.pop()!] = nodes;
    for (let at = shared; at < key.length; at++) {
      bytes[nodes] = key.charCodeAt(at);
      depths[nodes] = at + 1;
      parents[nodes] = path.at(-1) ?? -1;
      // A node has no tokens of its own unless it is the last of a key.
      firsts[nodes] = i;
      path.push(nodes++);
    }
    firsts[nodes] = i + 1;
    before = key;
  }
  while (path.length > 0) ends[path.pop()!] = nodes;
  const tree = { bytes: bytes.slice(0, nodes), ends: ends.slice(0, nodes), firsts: firsts.slice(0, nodes + 1) };
  yield;
  const plain = yield* plainLengths(tree);
  const further = new Uint8Array(nodes);
  for (let node = nodes - 1; node >= 0; node--) {
    const parent = parents[node]!;
    if (parent >= 0) further[parent] = Math.max(further[parent]!, Math.min(255, further[node]! + 1));
  }
  return {
    ...{ ...tree, depths: depths.slice(0, nodes), further, parents: parents.slice(0, nodes), plain },
    ids: Int32Array.from(sorted, ({ id }) => id),
  };
}

/** Returns the node of a tree for each node of one with some of its tokens. */
function nodesIn(all: TokenNodes, some: TokenNodes): Int32Array {
  const found = new Int32Array(some.bytes.length);
  // Both are in the order of a walk, and what is between two nodes is passed with all that is below it.
  let at = 0;
  for (let node = 0; node < found.length; node++) {
    while (all.depths[at] !== some.depths[node] || all.bytes[at] !== some.bytes[node]) at = all.ends[at]!;
    found[node] = at++;
  }
  return found;
}

function sortedByByte(bytes: Uint8Array): { byByte: Int32Array; byteStarts: Int32Array } {
  const byteStarts = new Int32Array(257);
  for (const one of bytes) byteStarts[one + 1]!++;
  for (let one = 0; one < 256; one++) byteStarts[one + 1]! += byteStarts[one]!;
  const byByte = new Int32Array(bytes.length);
  const places = byteStarts.slice();
  for (let node = 0; node < bytes.length; node++) byByte[places[bytes[node]!]!++] = node;
  return { byByte, byteStarts };
}
