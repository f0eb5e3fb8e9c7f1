// The interface of every tokenizer.
import type { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import type { TokenStream } from "./token-stream.js";

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
