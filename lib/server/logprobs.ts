// Log-probabilities of tokens in OpenAI's forms.
import type { TokenLogprob, TokenLogprobs } from "../generate/generation.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type Items, MappedArray } from "./streamed-json.js";

/** Positions of the tokens of an answer in its text, in characters; a token may be a part of one. */
export class TextOffsets {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #at: number;

  /** Begins at the start of a text, before which the tokens have so many characters that it has not. */
  constructor(skipped = 0) {
    this.#at = -skipped;
  }

  /** Returns the offsets of a text's tokens. What a tokenizer adds to a text comes at its beginning. */
  static of(tokenizer: Tokenizer, text: string, tokens: Int32Array): TextOffsets {
    const whole = new TextOffsets();
    for (const token of tokens) whole.next(tokenizer, token);
    return new TextOffsets(Math.max(0, whole.#at - Array.from(text).length));
  }

  /** Returns the position at which a token begins: that of its character, if it goes on with one. */
  next(tokenizer: Tokenizer, token: number): number {
    const at = this.#at;
    this.#at += Array.from(this.#decoder.decode(bytesOf(tokenizer, token), { stream: true })).length;
    return Math.max(0, at);
  }
}

/** Returns the log-probabilities of tokens as chat completions have them. */
export function chatLogprobs(
  tokenizer: Tokenizer,
  tokens: Items<TokenLogprobs> | undefined,
): { content: MappedArray<TokenLogprobs>; refusal: null } | null {
  if (!tokens) return null;
  const entry = ({ token, logprob }: TokenLogprob): object => {
    const { text, bytes } = shownToken(tokenizer, token);
    return { token: text, logprob: finite(logprob), bytes };
  };
  const content = new MappedArray(tokens, (one) => ({ ...entry(one), top_logprobs: one.top.map(entry) }));
  return { content, refusal: null };
}

/** A token with its log-probability, which the first one of a prompt has not. */
export type ScoredToken = TokenLogprobs | { readonly token: number; readonly logprob: null };

/** Returns the tokens of a prompt, of which all but the first have scores, and the generated ones. */
export function echoed(
  prompt: Int32Array,
  scores: Items<TokenLogprobs>,
  generated: Items<TokenLogprobs> | readonly TokenLogprobs[] = [],
): Items<ScoredToken> {
  const first = { token: prompt[0]!, logprob: null };
  return {
    length: 1 + scores.length + generated.length,
    at: (i) => (i === 0 ? first : i <= scores.length ? scores.at(i - 1) : generated.at(i - 1 - scores.length)),
    *[Symbol.iterator]() {
      yield first;
      yield* scores;
      yield* generated;
    },
  };
}

/** Log-probabilities as text completions have them. */
interface TextLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: MappedArray<ScoredToken>;
  text_offset: number[];
}

/**
 * Returns the log-probabilities of tokens as text completions have them. `offsets` knows the tokens before them. The
 * generated token is always among those at its place.
 */
export function textLogprobs(
  tokenizer: Tokenizer,
  tokens: Items<ScoredToken> | undefined,
  offsets = new TextOffsets(),
): TextLogprobs | null {
  if (!tokens) return null;
  const texts = Array.from(tokens, ({ token }) => shownToken(tokenizer, token).text);
  const named = ({ token, logprob }: TokenLogprob) => [shownToken(tokenizer, token).text, finite(logprob)] as const;
  return {
    tokens: texts,
    token_logprobs: Array.from(tokens, ({ logprob }) => (logprob === null ? null : finite(logprob))),
    // Of tokens with the same text, the likeliest counts, which comes first.
    top_logprobs: new MappedArray(tokens, (one) =>
      one.logprob === null ? null : Object.fromEntries([...top(one).map(named)].reverse()),
    ),
    text_offset: Array.from(tokens, ({ token }) => offsets.next(tokenizer, token)),
  };
}

/** Returns the likeliest tokens at a place, and the generated one if it is none of them. */
function top(one: TokenLogprobs): readonly TokenLogprob[] {
  return one.top.some(({ token }) => token === one.token) ? one.top : [...one.top, one];
}

/** A token as answers show it. */
interface ShownToken {
  readonly text: string;
  /** Bytes of the token, which may be a part of a character. */
  readonly bytes: readonly number[];
}

/** Tokens that have been shown: an answer may have hundreds of thousands, but a vocabulary has fewer. */
const shownTokens = new WeakMap<Tokenizer, Map<number, ShownToken>>();

/** Returns a token that is not the first of a text. */
export function shownToken(tokenizer: Tokenizer, token: number): ShownToken {
  const known = shownTokens.get(tokenizer) ?? new Map<number, ShownToken>();
  shownTokens.set(tokenizer, known);
  const found = known.get(token);
  if (found) return found;
  const text = textOf(tokenizer, token);
  const shown = { text, bytes: [...bytesOf(tokenizer, token)] };
  known.set(token, shown);
  return shown;
}

function bytesOf(tokenizer: Tokenizer, token: number): Uint8Array {
  if (token >= tokenizer.vocabularySize) return new Uint8Array();
  return tokenizer.bytesOf?.(token) ?? Buffer.from(textOf(tokenizer, token));
}

function textOf(tokenizer: Tokenizer, token: number): string {
  if (token >= tokenizer.vocabularySize) return "";
  const stream = tokenizer.stream();
  stream.push(token);
  const text = stream.push(token) + stream.end();
  return text.includes("\ufffd") ? "\ufffd" : text;
}

/** Returns a number that JSON can hold: a token that is impossible has the log-probability -9999, as in OpenAI's answers. */
export function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}
