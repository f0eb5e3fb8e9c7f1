// Log-probabilities of tokens in OpenAI's forms.
import type { TokenLogprob, TokenLogprobs } from "../generate/generation.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { MappedArray } from "./json-parts.js";

/** Returns the log-probabilities of tokens as chat completions have them. */
export function chatLogprobs(tokenizer: Tokenizer, tokens: readonly TokenLogprobs[] | undefined): object | null {
  if (!tokens) return null;
  const entry = ({ token, logprob }: TokenLogprob): object => {
    const { text, bytes } = shownToken(tokenizer, token);
    return { token: text, logprob: finite(logprob), bytes };
  };
  const content = new MappedArray(tokens, (one) => ({ ...entry(one), top_logprobs: one.top.map(entry) }));
  return { content, refusal: null };
}

/** Log-probabilities as text completions have them. */
interface TextLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: MappedArray<TokenLogprobs>;
  text_offset: number[];
}

/** Returns the log-probabilities of tokens as text completions have them. `offset` is that of the first token's text. */
export function textLogprobs(
  tokenizer: Tokenizer,
  tokens: readonly TokenLogprobs[] | undefined,
  offset = 0,
): TextLogprobs | null {
  if (!tokens) return null;
  const texts = tokens.map(({ token }) => shownToken(tokenizer, token).text);
  const named = ({ token, logprob }: TokenLogprob) => [shownToken(tokenizer, token).text, finite(logprob)] as const;
  let at = offset;
  return {
    tokens: texts,
    token_logprobs: tokens.map(({ logprob }) => finite(logprob)),
    // Of tokens with the same text, the likeliest counts, which comes first.
    top_logprobs: new MappedArray(tokens, ({ top }) => Object.fromEntries(top.map(named).reverse())),
    text_offset: texts.map((text) => (at += text.length) - text.length),
  };
}

/** A token as answers show it. */
interface ShownToken {
  readonly text: string;
  /** Bytes of the text; null if it is a part of a character, whose bytes are not known from the text. */
  readonly bytes: readonly number[] | null;
}

/** Tokens that have been shown: an answer may have hundreds of thousands, but a vocabulary has fewer. */
const shownTokens = new WeakMap<Tokenizer, Map<number, ShownToken>>();

/** Returns a token that is not the first of a text. */
function shownToken(tokenizer: Tokenizer, token: number): ShownToken {
  const known = shownTokens.get(tokenizer) ?? new Map<number, ShownToken>();
  shownTokens.set(tokenizer, known);
  const found = known.get(token);
  if (found) return found;
  const text = textOf(tokenizer, token);
  const shown = { text, bytes: text.includes("\ufffd") ? null : [...Buffer.from(text)] };
  known.set(token, shown);
  return shown;
}

function textOf(tokenizer: Tokenizer, token: number): string {
  if (token >= tokenizer.vocabularySize) return "";
  const stream = tokenizer.stream();
  stream.push(token);
  const text = stream.push(token) + stream.end();
  return text.includes("\ufffd") ? "\ufffd" : text;
}

/** Returns a number that JSON can hold: a token that is impossible has the log-probability -9999, as in OpenAI's answers. */
function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}
