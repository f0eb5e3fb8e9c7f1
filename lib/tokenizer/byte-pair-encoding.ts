// Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909; over bytes in GPT-2): the adjacent pair of parts whose
// union has the lowest rank is merged, the leftmost first, until no union is in the vocabulary. Parts form a linked
// list and candidate pairs a heap, so that a long piece (a page without a space) takes n log n steps, not n².
//
// Bytes are written as strings of the characters U+0000 to U+00FF, which makes them keys of a Map.

/** Ranks, which are the ids, by the bytes of the token; every single byte has one. */
export type Ranks = ReadonlyMap<string, number>;

/** Room for the position in a heap key; ranks stay below 2^21. */
const positions = 2 ** 32;

/** Appends the ids of one piece of text to `ids`. */
export function encodePiece(bytes: string, ranks: Ranks, ids: number[]): void {
  const whole = ranks.get(bytes);
  if (whole !== undefined) {
    ids.push(whole);
    return;
  }
  const n = bytes.length;
  // A part is known by its first byte: where the next one begins, where the one before, and the rank of the union with
  // the next, -1 where there is none.
  const next = new Int32Array(n);
  const previous = new Int32Array(n + 1);
  const pair = new Int32Array(n).fill(-1);
  for (let i = 0; i < n; i++) {
    next[i] = i + 1;
    previous[i + 1] = i;
  }
  const heap: number[] = [];

  const consider = (i: number) => {
    const second = next[i]!;
    const rank = second < n ? ranks.get(bytes.slice(i, next[second])) : undefined;
    pair[i] = rank ?? -1;
    if (rank !== undefined) push(heap, rank * positions + i);
  };

  for (let i = 0; i < n; i++) consider(i);
  while (heap.length > 0) {
    const key = pop(heap);
    const i = key % positions;
    // Pairs that changed since they were pushed stay in the heap; their rank tells.
    if (pair[i] !== Math.floor(key / positions)) continue;
    const merged = next[i]!;
    pair[merged] = -1;
    next[i] = next[merged]!;
    previous[next[i]] = i;
    consider(i);
    if (i > 0) consider(previous[i]!);
  }
  for (let i = 0; i < n; i = next[i]!) ids.push(ranks.get(bytes.slice(i, next[i]))!);
}

/** The two parts that each token of more than one byte is merged from, in the order of the ranks. */
export function mergesOf(ranks: Ranks): [string, string][] {
  return [...ranks].flatMap(([token, rank]): [string, string][] => {
    if (token.length === 1) return [];
    const parts = token.split("");
    while (parts.length > 2) {
      let [best, at] = [rank, -1];
      for (let i = 0; i + 1 < parts.length; i++) {
        const union = ranks.get(parts[i]! + parts[i + 1]!) ?? rank;
        if (union < best) [best, at] = [union, i];
      }
      // No two of its parts come before it: the token is out of any text's reach.
      if (at < 0) return [];
      parts.splice(at, 2, parts[at]! + parts[at + 1]!);
    }
    return [[parts[0]!, parts[1]!]];
  });
}

function push(heap: number[], key: number): void {
  let i = heap.length;
  while (i > 0) {
    const parent = (i - 1) >> 1;
    if (heap[parent]! <= key) break;
    heap[i] = heap[parent]!;
    i = parent;
  }
  heap[i] = key;
}

/** Takes out the smallest key of a heap that has one. */
function pop(heap: number[]): number {
  const smallest = heap[0]!;
  const last = heap.pop()!;
  const n = heap.length;
  if (n === 0) return smallest;
  let i = 0;
  for (let child = 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= last) break;
    heap[i] = heap[child]!;
    i = child;
  }
  heap[i] = last;
  return smallest;
}
