// The interface of every tokenizer.
import type { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import type { EncodedPair } from "./text-pair.js";
import type { TokenStream } from "./token-stream.js";

/**
 * Converts text to token ids and back. `decode(encode(text))` is `text`, except that a lone surrogate, which is not
 * valid Unicode, becomes U+FFFD. A published tokenizer may lose more: BERT's lowercases the text.
 *
 * @example
 * const ids = tokenizer.encode("Call me Ishmael."); // Int32Array of 16 ids
 * tokenizer.decode(ids); // "Call me Ishmael."
 */
export interface Tokenizer {
  /** Number of ids; they run from 0 to `vocabularySize - 1`. */
  readonly vocabularySize: number;
  /** The id that ends a text; null if the vocabulary has none. */
  readonly endOfText: number | null;
  /** The id that begins a text; null or missing if the vocabulary has none. */
  readonly beginningOfText?: number | null;
  /**
   * Returns the ids of a text. The call blocks the thread: a few megabytes of text take about a second. `encodeAsync`
   * does not block.
   */
  encode(text: string): Int32Array;
  /**
   * Resolves to the same ids as `encode`, at most `maxLength` of them. The work is done in short slices, so that the
   * event loop keeps running, and ends with the last id that is wanted.
   */
  encodeAsync?(text: string, options?: { maxLength?: number }): Promise<Int32Array>;
  /**
   * Resolves to the ids of a pair of texts and their types, at most `maxLength` of them. The method is missing if the
   * tokenizer cannot encode pairs.
   */
  encodePairAsync?(a: string, b: string, options?: { maxLength?: number }): Promise<EncodedPair>;
  /**
   * Returns the text of these ids. Bytes that are not UTF-8 become U+FFFD.
   *
   * @throws ERR_RANGE if an id is not in the vocabulary.
   */
  decode(ids: Iterable<number>): string;
  /**
   * Returns the bytes that a token adds to a text that it does not begin; none for a special token, unless `special` is
   * true. The method is missing if tokens have no bytes of their own; texts can then have no `format`.
   */
  bytesOf?(id: number, options?: { special?: boolean }): Uint8Array;
  /** Returns a stream that decodes ids one by one, for example while a text is generated. */
  stream(): TokenStream;
  /**
   * Returns the same tokenizer as a tokenizer.json, which other libraries can read. The method is missing if the
   * tokenizer has no such form.
   */
  toHuggingFace?(): HuggingFaceTokenizer;
  /** Returns an object from which `tokenizerFromJSON` creates the tokenizer again. */
  toJSON(): TokenizerJSON;
}

/** Resolves to the ids of a text, or the first `maxLength` of them. Uses `encodeAsync` if the tokenizer has it. */
export async function encodeText(tokenizer: Tokenizer, text: string, maxLength?: number): Promise<Int32Array> {
  const options = maxLength === undefined ? {} : { maxLength };
  const ids = await (tokenizer.encodeAsync?.(text, options) ?? tokenizer.encode(text));
  return ids.subarray(0, maxLength);
}

/** The form in which a checkpoint stores a tokenizer. */
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
