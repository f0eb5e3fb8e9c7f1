// WordPiece (Schuster & Nakajima 2012; BERT's): from the left, the longest token that a word goes on with. A word of which
// a rest is in no token is unknown as a whole.
import type { Steps } from "../turns.js";
import type { IdList } from "./id-parts.js";
import { remember, type TokenModel, type Vocabulary, type WordCache } from "./token-model.js";

export interface WordPieceOptions {
  /** Put before what goes on within a word. */
  readonly prefix: string;
  /** The most characters of a word; longer ones are unknown. */
  readonly longest: number;
}

export class WordPieceModel implements TokenModel {
  readonly #vocabulary: Vocabulary;
  readonly #options: WordPieceOptions;
  /** UTF-16 units of the longest token. */
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

  /** The ids of a word's tokens; null where it has none. */
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
