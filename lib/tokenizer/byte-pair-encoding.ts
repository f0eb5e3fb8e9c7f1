// GPT-2's byte-pair encoding: the rank of a merge is the id of the token that it makes. Bytes are written as strings of
// the characters U+0000 to U+00FF, so that they can be keys of a Map.
import type { Steps } from "../util/turns.js";
import { mergeParts } from "./merge-parts.js";

/** Maps the bytes of each token to its rank, which is also its id. Every single byte has a rank. */
export type Ranks = ReadonlyMap<string, number>;

/** Appends the ids of one piece of text to `ids`. */
export function* encodePiece(bytes: string, ranks: Ranks, ids: number[]): Steps<void> {
  const rank = (first: number, _: number, end: number): number => ranks.get(bytes.slice(first, end)) ?? -1;
  const next = yield* mergeParts(bytes.length, { rank });
  for (let i = 0; i < bytes.length; i = next[i]!) ids.push(ranks.get(bytes.slice(i, next[i]))!);
}

/** Returns the two parts from which each token of more than one byte is merged, in the order of the ranks. */
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
      // No pair of its parts has a lower rank than the token itself, so no text ever merges into it.
      if (at < 0) return [];
      parts.splice(at, 2, parts[at]! + parts[at + 1]!);
    }
    return [[parts[0]!, parts[1]!]];
  });
}
