// Pairs of texts, such as a question and a passage: both are cut to a common length, and a template of the tokenizer
// puts special tokens around them and gives each token a type.
import type { Piece } from "./post-processor.js";

/** Tokens of a pair of texts. */
export interface EncodedPair {
  /** Ids of the tokens, those of the special ones included. */
  ids: Int32Array;
  /** Type of each token, such as 0 for the first text and 1 for the second. */
  tokenTypes: Int32Array;
}

/**
 * Returns the tokens of a pair from the ids of its texts. At most `most` ids of both together remain; they are cut off
 * from the ends, first from the longer text.
 */
export function joinPair(
  template: readonly Piece<number>[],
  texts: readonly [Int32Array, Int32Array],
  most: number,
): EncodedPair {
  const [a, b] = remaining(texts[0].length, texts[1].length, most);
  const cut = [texts[0].subarray(0, a), texts[1].subarray(0, b)];
  const parts = template.map((piece) => ({
    ids: "token" in piece ? [piece.token] : cut[piece.text]!,
    type: piece.type,
  }));
  const length = parts.reduce((sum, { ids }) => sum + ids.length, 0);
  const pair = { ids: new Int32Array(length), tokenTypes: new Int32Array(length) };
  let at = 0;
  for (const { ids, type } of parts) {
    pair.ids.set(ids, at);
    pair.tokenTypes.fill(type, at, (at += ids.length));
  }
  return pair;
}

/** Returns how many ids of each text remain, as Hugging Face's strategy "longest_first" determines it. */
function remaining(a: number, b: number, most: number): [number, number] {
  const less = Math.min(a, b, Math.floor(most / 2));
  return a > b ? [most - less, less] : [less, most - less];
}
