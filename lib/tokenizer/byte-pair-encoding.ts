// GPT-2's byte-pair encoding: a union's rank is the id of the token that it is. Bytes are written as strings of the
// characters U+0000 to U+00FF, which makes them keys of a Map.
import type { Steps } from "../turns.js";
import { mergeParts } from "./merge-parts.js";

/** Ranks, which are the ids, by the bytes of the token; every single byte has one. */
export type Ranks = ReadonlyMap<string, number>;

/** Appends the ids of one piece of text to `ids`. */
export function* encodePiece(bytes: string, ranks: Ranks, ids: number[]): Steps<void> {
  const rank = (first: number, _: number, end: number): number => ranks.get(bytes.slice(first, end)) ?? -1;
  const next = yield* mergeParts(bytes.length, { rank });
  for (let i = 0; i < bytes.length; i = next[i]!) ids.push(ranks.get(bytes.slice(i, next[i]))!);
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
