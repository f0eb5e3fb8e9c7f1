// The interface that the models of a tokenizer.json share: they cut pieces of text into tokens of one vocabulary.
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import type { IdList } from "./id-parts.js";

/** A model that cuts pieces of text into tokens. */
export interface TokenModel {
  /** Appends the ids of the piece's tokens to `ids`. Words that recur in a text are looked up in `words`. */
  encode(piece: string, ids: IdList, words: WordCache): Steps<void>;
}

/**
 * The tokens of words of one text. The cache lives no longer than the text, since the words are slices that keep the
 * whole text in memory.
 */
export type WordCache = Map<string, readonly number[]>;

const mostWords = 10_000;

/** Stores the tokens of a word. A full cache is cleared first. */
export function remember(words: WordCache, word: string, tokens: readonly number[]): void {
  if (words.size >= mostWords) words.clear();
  words.set(word, tokens);
}

/**
 * A model's tokens, by their texts. It includes special tokens, but `get` does not find them, since no text contains
 * them.
 */
export class Vocabulary {
  constructor(
    readonly ids: ReadonlyMap<string, number>,
    readonly special: ReadonlySet<number>,
    /** The id of the unknown token; null if there is none. */
    readonly unknown: number | null,
  ) {}

  /** Returns the id of a token that is not special, or undefined if there is none. */
  get(text: string): number | undefined {
    const id = this.ids.get(text);
    return id === undefined || this.special.has(id) ? undefined : id;
  }

  /** Returns the ids of the tokens of single bytes, <0x00> to <0xFF>; undefined for a byte that has none. */
  bytes(): (number | undefined)[] {
    return Array.from({ length: 256 }, (_, byte) => this.ids.get(byteName(byte)));
  }

  /**
   * Returns the id of the unknown token. `text` is the unknown text, for the message.
   *
   * @throws ERR_RANGE if there is no unknown token.
   */
  unknownId(text: string): number {
    if (this.unknown !== null) return this.unknown;
    throw new HeedError(
      "ERR_RANGE",
      `tokenizer: expected text that the vocabulary can express, got ${JSON.stringify(text)}`,
    );
  }
}

/** Returns the ids of a text's UTF-8 bytes, or undefined unless every byte has a token. */
export function byteIds(text: string, bytes: readonly (number | undefined)[]): number[] | undefined {
  const ids = Array.from(Buffer.from(text), (byte) => bytes[byte]);
  return ids.every((id) => id !== undefined) ? ids : undefined;
}

/** Returns the name of a byte's token, such as <0x0A>. */
function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}
