// What every tokenizer does, and the decoding they share: ids become bytes, and bytes become text as far as they are
// whole characters, so that a stream of tokens never shows half of one.
import { HeedError } from "../errors.js";
import type { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";

/**
 * Text to token ids and back. `decode(encode(text))` is `text`, a lone surrogate (not Unicode) becoming U+FFFD; a published
 * tokenizer may keep less of it (BERT's has no capitals).
 */
export interface Tokenizer {
  /** Ids run from 0 to `vocabularySize - 1`. */
  readonly vocabularySize: number;
  /** The id that ends a text; null where the vocabulary has none. */
  readonly endOfText: number | null;
  /** Holds the thread until it is done: a second for some megabytes. For long texts there is `encodeAsync`. */
  encode(text: string): Int32Array;
  /** Resolves to what `encode` gives, in pieces of work between which the event loop goes round. */
  encodeAsync?(text: string): Promise<Int32Array>;
  /** Bytes that are not UTF-8 become U+FFFD. Throws ERR_RANGE for an id outside the vocabulary. */
  decode(ids: Iterable<number>): string;
  /** Decodes ids as they come. */
  stream(): TokenStream;
  /** The same in the form that others' tools read (tokenizer.json), where there is one. */
  toHuggingFace?(): HuggingFaceTokenizer;
  /** What `tokenizerFromJSON` makes the tokenizer from again. */
  toJSON(): TokenizerJSON;
}

/** A text's ids by `encodeAsync` where a tokenizer has it. */
export async function encodeText(tokenizer: Tokenizer, text: string): Promise<Int32Array> {
  return tokenizer.encodeAsync?.(text) ?? tokenizer.encode(text);
}

/** Decodes ids one by one; the texts of all calls, joined, are what `decode` gives. */
export interface TokenStream {
  /** The text that `id` completes: "" while a character is not whole. */
  push(id: number): string;
  /** What is left at the end: U+FFFD for an unfinished character, "" otherwise. */
  end(): string;
}

/** A tokenizer in a checkpoint. */
export type TokenizerJSON =
  | { type: "byte" }
  | { type: "char"; characters: string }
  | { type: "gpt2" }
  | { type: "llama2c"; tokens: [string, number][] }
  | {
      type: "huggingface";
      tokenizer: unknown;
      config: Readonly<Record<string, unknown>>;
      chatTemplate: string | null;
    };

/** A stream over tokens that are bytes, of UTF-8 that may be cut anywhere. */
export function byteStream(bytesOf: (id: number) => Uint8Array): TokenStream {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    push: (id) => decoder.decode(bytesOf(id), { stream: true }),
    end: () => decoder.decode(),
  };
}

export function decodeAll(stream: TokenStream, ids: Iterable<number>): string {
  const texts: string[] = [];
  for (const id of ids) texts.push(stream.push(id));
  texts.push(stream.end());
  return texts.join("");
}

/** Throws ERR_RANGE unless `id` is one of the tokenizer's. */
export function checkId(tokenizer: Tokenizer, id: number): void {
  if (Number.isInteger(id) && id >= 0 && id < tokenizer.vocabularySize) return;
  throw new HeedError(
    "ERR_RANGE",
    `${tokenizer.constructor.name}: expected an id from 0 to ${tokenizer.vocabularySize - 1}, got ${String(id)}`,
  );
}
