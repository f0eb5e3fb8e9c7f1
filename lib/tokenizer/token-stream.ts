// The decoding that all tokenizers share. Ids become bytes, and bytes become text as soon as they form complete
// characters, so that a stream of tokens never shows half a character.
import { HeedError } from "../errors.js";

/**
 * Decoder of ids that come one by one. The texts of all calls, joined, are the result of `decode`.
 *
 * @example
 * const stream = tokenizer.stream();
 * stream.push(0xc3); // "": half a character
 * stream.push(0xa9); // "é"
 * stream.end(); // ""
 */
export interface TokenStream {
  /** Returns the text that `id` completes, or "" while a character is incomplete. */
  push(id: number): string;
  /** Returns the rest of the text: U+FFFD for an incomplete character, "" otherwise. */
  end(): string;
}

/** Returns a stream over tokens that are bytes of UTF-8. A token may end within a character. */
export function byteStream(bytesOf: (id: number) => Uint8Array): TokenStream {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    push: (id) => decoder.decode(bytesOf(id), { stream: true }),
    end: () => decoder.decode(),
  };
}

/** Returns the text of all ids. */
export function decodeAll(stream: TokenStream, ids: Iterable<number>): string {
  const texts: string[] = [];
  for (const id of ids) texts.push(stream.push(id));
  texts.push(stream.end());
  return texts.join("");
}

/**
 * Checks that `id` is an id of the tokenizer.
 *
 * @throws ERR_RANGE if it is not.
 */
export function checkId(tokenizer: { readonly vocabularySize: number }, id: number): void {
  if (Number.isInteger(id) && id >= 0 && id < tokenizer.vocabularySize) return;
  throw new HeedError(
    "ERR_RANGE",
    `${tokenizer.constructor.name}: expected an id from 0 to ${tokenizer.vocabularySize - 1}, got ${String(id)}`,
  );
}
