import { pythonWords, wordsOf } from "../python-strings.js";
import { countsOf, overlapOf } from "./counts.js";

/** Articles between characters that are not letters or digits of any language, as Python's `\b(a|an|the)\b`. */
const articles = new RegExp(`(?<![${pythonWords}])(?:an?|the)(?![${pythonWords}])`, "gu");

/**
 * Returns the best F1 of a text's words with those of a reference, as SQuAD defines it (Rajpurkar et al. 2016):
 * without case, ASCII's punctuation and the articles "a", "an" and "the". Letters are those of all languages: the "a" of
 * "à la carte" and of "année" is no article. A text without words has an F1 of 1 with a
 * reference without words, and 0 with any other (Rajpurkar et al. 2018).
 *
 * @example
 * squadF1("The white whale.", ["a whale"]); // 2/3
 *
 * @see https://arxiv.org/abs/1606.05250
 * @see https://arxiv.org/abs/1806.03822
 */
export function squadF1(text: string, references: readonly string[]): number {
  return Math.max(0, ...references.map((reference) => f1(plainWords(text), plainWords(reference))));
}

function f1(given: readonly string[], expected: readonly string[]): number {
  if (given.length === 0 || expected.length === 0) return given.length === expected.length ? 1 : 0;
  const overlap = overlapOf(countsOf(given), countsOf(expected));
  return (2 * overlap) / (given.length + expected.length);
}

function plainWords(text: string): string[] {
  return wordsOf(
    text
      .toLowerCase()
      .replaceAll(/[!-/:-@[-`{-~]/g, "")
      .replaceAll(articles, " "),
  );
}
