// WordPiece (Schuster & Nakajima 2012), BERT's model: a word is cut from left to right, each time at the end of the
// longest token that continues it. If no token continues it, the whole word is unknown.
import type { Steps } from "../util/turns.js";
import type { IdList } from "./id-parts.js";
import { remember, type TokenModel, type Vocabulary, type WordCache } from "./token-model.js";

/** Options of a WordPiece model. */
export interface WordPieceOptions {
  /** Prefix of tokens that do not begin a word. */
  readonly prefix: string;
  /** Maximum number of characters of a word; longer words are unknown. */
  readonly longest: number;
}

/** Cuts words into tokens by WordPiece. */
export class WordPieceModel implements TokenModel {
  readonly #vocabulary: Vocabulary;
  readonly #options: WordPieceOptions;
  /** Length of the longest token in UTF-16 units. */
  readonly #longestToken: number;

  constructor(vocabulary: Vocabulary, options: WordPieceOptions) {
    [this.#vocabulary, this.#options] = [vocabulary, options];
    let longest = 0;
    for (const text of vocabulary.ids.keys()) longest = Math.max(longest, text.length);
    this.#longestToken = longest;
  }

  *encode(piece: string, ids: IdList, words: WordCache): Steps<void> {
    let tokens = words.get(piece);
    if (!tokens) {
      tokens = (yield* this.#tokensOf(piece)) ?? [this.#vocabulary.unknownId(piece)];
      remember(words, piece, tokens);
    }
    ids.append(tokens);
  }

  /** Returns the ids of a word's tokens, or null if the word is unknown. */
  *#tokensOf(word: string): Steps<number[] | null> {
    const { prefix, longest } = this.#options;
    if (word.length > 2 * longest) return null;
    const characters = Array.from(word);
    if (characters.length > longest) return null;
    const ids: number[] = [];
    for (let start = 0; start < characters.length;) {
      const before = start === 0 ? "" : prefix;
      let end = Math.min(characters.length, start + this.#longestToken);
      let id: number | undefined;
      for (; end > start && id === undefined; end--)
        id = this.#vocabulary.get(before + characters.slice(start, end).join(""));
      if (id === undefined) return null;
      ids.push(id);
      start = end + 1;
      yield;
    }
    return ids;
  }
}
