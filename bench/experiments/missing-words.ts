/** A task of classification on real text: which kind of word is missing in a passage of Moby Dick. */
import { bookText } from "./book.js";

/** Tokens before those of words: the classifier's own, the missing word, and words that are rare. */
export const special = { classify: 0, missing: 1, unknown: 2 } as const;
const kinds = [/^whales?$/, /^(ships?|boats?)$/] as const;
/** Names of the classes. */
export const kindNames = ["whale", "ship"] as const;

/** A passage whose middle word is missing. */
export interface Passage {
  /** Token for classification, words before, the missing word, words after. */
  ids: number[];
  /** Index of the missing word's kind. */
  label: number;
}

/** Passages for training and for tests. */
export interface Passages {
  words: string[];
  length: number;
  train: Passage[];
  test: Passage[];
}

/**
 * Returns all passages of `reach` words on both sides of a whale or a ship. Other whales and ships in them become
 * unknown. Every fifth stretch of 40 passages is for tests, so that few passages overlap with those of training.
 */
export function missingWords(reach: number, vocabularySize: number): Passages {
  const text = bookText()
    .toLowerCase()
    .match(/[a-z']+/g)!;
  const counts = new Map<string, number>();
  for (const word of text) counts.set(word, (counts.get(word) ?? 0) + 1);
  const kindOf = (word: string): number => kinds.findIndex((kind) => kind.test(word));
  const frequent = [...counts.keys()]
    .filter((word) => kindOf(word) === -1)
    .sort((a, b) => counts.get(b)! - counts.get(a)!);
  const words = frequent.slice(0, vocabularySize - Object.keys(special).length);
  const ids = new Map(words.map((word, i) => [word, Object.keys(special).length + i]));
  const passages: Passage[] = [];
  for (let at = reach; at < text.length - reach; at++) {
    const label = kindOf(text[at]!);
    if (label === -1) continue;
    const around = text.slice(at - reach, at + reach + 1).map((word) => ids.get(word) ?? special.unknown);
    around[reach] = special.missing;
    passages.push({ ids: [special.classify, ...around], label });
  }
  const isTest = (i: number): boolean => Math.floor(i / 40) % 5 === 4;
  return {
    ...{ words, length: 2 * reach + 2 },
    train: passages.filter((_, i) => !isTest(i)),
    test: passages.filter((_, i) => isTest(i)),
  };
}
