// Turns the texts of a call into tokens before they join the queue of a model, without blocking the event loop.
import { describe, HeedError } from "../util/errors.js";
import type { EncodedPair } from "../tokenizer/text-pair.js";
import { pauseIfLong } from "../util/turns.js";
import type { TokenSequence } from "./sequence-queue.js";

/** The methods of a tokenizer that `embedTexts` calls. */
export interface EmbeddingTokenizer {
  /** Returns the token ids of a text, at most `maxLength` of them. */
  encode(text: string, options?: { maxLength?: number }): Int32Array;
  /**
   * Returns the same without blocking the event loop for long. If a tokenizer has this method, it is used instead of
   * `encode`.
   */
  encodeAsync?(text: string, options?: { maxLength?: number }): Promise<Int32Array>;
}

/** The methods of a tokenizer that are needed for texts and for pairs of texts. */
export interface PairTokenizer extends EmbeddingTokenizer {
  /** Resolves to the tokens of a pair and their types, at most `maxLength` of them. */
  encodePairAsync?(a: string, b: string, options?: { maxLength?: number }): Promise<EncodedPair>;
}

/** Two texts that a model reads together, such as a question and a passage. */
export type TextPair = readonly [string, string];

/** Limits of the tokens that a model can read. */
export interface TokenLimits {
  /** Most tokens of a text or a pair. */
  maxLength: number;
  /** Number of tokens in the model's vocabulary. */
  vocabularySize: number;
  /** Number of types of tokens that the model tells apart. With fewer than two, it needs no types. */
  tokenTypes: number;
  /** Function that is called with the number of tokens of each text, before the text is cut. @default none */
  onTokens?: ((count: number) => void) | undefined;
}

/**
 * Resolves to the tokens of texts, or of pairs of texts. Texts that are tokens already are only cut. All are checked here,
 * because a token that the model cannot read would spoil the texts of others in its batch.
 *
 * @throws ERR_ARGUMENT if a text has no tokens, or the tokenizer cannot encode pairs.
 * @throws ERR_RANGE if `maxLength` leaves no room for the special tokens, or the model does not know a token or its
 * type.
 * @throws The signal's reason if it is aborted.
 */
export async function encodeTexts(
  op: string,
  tokenizer: PairTokenizer,
  texts: readonly (string | TextPair | Int32Array)[],
  { maxLength, vocabularySize, tokenTypes, onTokens, signal }: TokenLimits & { signal: AbortSignal | undefined },
): Promise<TokenSequence[]> {
  const sequences: TokenSequence[] = [];
  for (const [i, text] of texts.entries()) {
    signal?.throwIfAborted();
    const encode = (most?: number): Promise<TokenSequence> =>
      text instanceof Int32Array
        ? Promise.resolve({ ids: text.subarray(0, most), tokenTypes: null })
        : typeof text === "string"
          ? encodeText(tokenizer, text, most)
          : encodePair(op, tokenizer, text, most);
    let encoded = await encode(onTokens ? undefined : maxLength);
    onTokens?.(encoded.ids.length);
    // Special tokens at the end of a text stay when it is cut.
    if (encoded.ids.length > maxLength) encoded = await encode(maxLength);
    const { ids, tokenTypes: types } = encoded;
    if (ids.length === 0)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one token in texts[${i}], got none`);
    checkBelow(op, `the tokens of texts[${i}]`, ids, vocabularySize);
    const typed = tokenTypes > 1 ? types : null;
    if (typed) checkBelow(op, `the token types of texts[${i}]`, typed, tokenTypes);
    sequences.push({ ids, tokenTypes: typed });
    await pauseIfLong();
  }
  return sequences;
}

async function encodeText(tokenizer: PairTokenizer, text: string, maxLength?: number): Promise<TokenSequence> {
  const options = maxLength === undefined ? {} : { maxLength };
  const ids = await (tokenizer.encodeAsync?.(text, options) ?? tokenizer.encode(text, options));
  return { ids: ids.subarray(0, maxLength), tokenTypes: null };
}

async function encodePair(
  op: string,
  tokenizer: PairTokenizer,
  [a, b]: TextPair,
  maxLength?: number,
): Promise<TokenSequence> {
  if (!tokenizer.encodePairAsync)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a tokenizer that encodes pairs of texts (encodePairAsync), got ${describe(tokenizer)}`,
    );
  return tokenizer.encodePairAsync(a, b, maxLength === undefined ? {} : { maxLength });
}

function checkBelow(op: string, name: string, values: Int32Array, limit: number): void {
  const wrong = values.find((value) => value < 0 || value >= limit);
  if (wrong === undefined) return;
  throw new HeedError("ERR_RANGE", `${op}: expected ${name} to be from 0 to ${limit - 1}, got ${wrong}`);
}
