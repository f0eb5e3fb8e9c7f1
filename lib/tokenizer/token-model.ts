// What the models of a tokenizer.json have in common: they cut pieces of text into tokens of one vocabulary.
import { HeedError } from "../errors.js";
import type { Steps } from "../turns.js";
import type { IdList } from "./id-parts.js";

/** Cuts a piece of text into tokens. */
export interface TokenModel {
  /** Appends the tokens' ids. What is cut again and again within a text is looked up in `words`. */
  encode(piece: string, ids: IdList, words: WordCache): Steps<void>;
}

/** The tokens of words of one text; it lives no longer, since words are parts of the text in memory. */
export type WordCache = Map<string, readonly number[]>;

const mostWords = 10_000;

/** Remembers a word's tokens. */
export function remember(words: WordCache, word: string, tokens: readonly number[]): void {
  if (words.size >= mostWords) words.clear();
  words.set(word, tokens);
}

/** A model's tokens by their texts. Special ones, which no text has, are among them, and are not found. */
export class Vocabulary {
  constructor(
    readonly ids: ReadonlyMap<string, number>,
    readonly special: ReadonlySet<number>,
    /** The id of what is not in the vocabulary; null where there is none. */
    readonly unknown: number | null,
  ) {}

  /** The id of a token that texts have. */
  get(text: string): number | undefined {
    const id = this.ids.get(text);
    return id === undefined || this.special.has(id) ? undefined : id;
  }

  /** The tokens of all single bytes, <0x00> to <0xFF>, by byte; undefined where there is none. */
  bytes(): (number | undefined)[] {
    return Array.from({ length: 256 }, (_, byte) => this.ids.get(byteName(byte)));
  }

  /** The id of what is not in the vocabulary. Throws ERR_RANGE where there is none. */
  unknownId(text: string): number {
    if (this.unknown !== null) return this.unknown;
    throw new HeedError("ERR_RANGE", `tokenizer: expected text of the vocabulary, got ${JSON.stringify(text)}`);
  }
}

/** The tokens of a text's bytes; undefined unless each has one. */
export function byteIds(text: string, bytes: readonly (number | undefined)[]): number[] | undefined {
  const ids = Array.from(Buffer.from(text), (byte) => bytes[byte]);
  return ids.every((id) => id !== undefined) ? ids : undefined;
}

/** The name of a byte's token. */
function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}
