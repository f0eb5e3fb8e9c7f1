// The decoding that all tokenizers share. Ids become bytes, and bytes become text as soon as they form complete
// characters, so that a stream of tokens never shows half a character.
import { HeedError } from "../util/errors.js";

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
  // True if the decoder may hold the beginning of a character: after ASCII it holds nothing.
  let held = false;
  return {
    push(id) {
      const bytes = bytesOf(id);
      // A call of the decoder takes longer than most tokens.
      const text = held ? null : asciiText(bytes);
      if (text !== null) return text;
      if (bytes.length > 0) held = bytes.at(-1)! >= 0x80;
      return decoder.decode(bytes, { stream: true });
    },
    end() {
      held = false;
      return decoder.decode();
    },
  };
}

const characters: readonly string[] = Array.from({ length: 0x80 }, (_, byte) => String.fromCharCode(byte));

/** Returns the text of bytes that are ASCII; null for others, and for more than a token usually has. */
function asciiText(bytes: Uint8Array): string | null {
  if (bytes.length > 32) return null;
  let text = "";
  for (const byte of bytes) {
    const character = characters[byte];
    if (character === undefined) return null;
    text += character;
  }
  return text;
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
