// The decoding that all tokenizers share: ids become bytes, and bytes become text as far as they are whole characters, so
// that a stream of tokens never shows half of one.
import { HeedError } from "../errors.js";

/** Decodes ids one by one; the texts of all calls, joined, are what `decode` gives. */
export interface TokenStream {
  /** The text that `id` completes: "" while a character is not whole. */
  push(id: number): string;
  /** Returns what is left at the end: U+FFFD for an unfinished character, "" otherwise. */
  end(): string;
}

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
export function checkId(tokenizer: { readonly vocabularySize: number }, id: number): void {
  if (Number.isInteger(id) && id >= 0 && id < tokenizer.vocabularySize) return;
  throw new HeedError(
    "ERR_RANGE",
    `${tokenizer.constructor.name}: expected an id from 0 to ${tokenizer.vocabularySize - 1}, got ${String(id)}`,
  );
}
