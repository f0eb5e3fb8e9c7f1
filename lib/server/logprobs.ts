// Log-probabilities of tokens in OpenAI's forms.
import type { TokenLogprob, TokenLogprobs } from "../generate/generation.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** Returns the log-probabilities of tokens as chat completions have them. */
export function chatLogprobs(tokenizer: Tokenizer, tokens: readonly TokenLogprobs[] | undefined): object | null {
  if (!tokens) return null;
  const entry = ({ token, logprob }: TokenLogprob): object => {
    const text = textOf(tokenizer, token);
    // The bytes of a part of a character are not known from its text.
    const bytes = text.includes("\ufffd") ? null : [...Buffer.from(text)];
    return { token: text, logprob: finite(logprob), bytes };
  };
  return { content: tokens.map((one) => ({ ...entry(one), top_logprobs: one.top.map(entry) })), refusal: null };
}

/** Returns the log-probabilities of tokens as text completions have them. `offset` is that of the first token's text. */
export function textLogprobs(
  tokenizer: Tokenizer,
  tokens: readonly TokenLogprobs[] | undefined,
  offset = 0,
): { tokens: string[]; token_logprobs: number[]; top_logprobs: object[]; text_offset: number[] } | null {
  if (!tokens) return null;
  const texts = tokens.map(({ token }) => textOf(tokenizer, token));
  const named = ({ token, logprob }: TokenLogprob) => [textOf(tokenizer, token), finite(logprob)] as const;
  let at = offset;
  return {
    tokens: texts,
    token_logprobs: tokens.map(({ logprob }) => finite(logprob)),
    // Of tokens with the same text, the likeliest counts, which comes first.
    top_logprobs: tokens.map(({ top }) => Object.fromEntries(top.map(named).reverse())),
    text_offset: texts.map((text) => (at += text.length) - text.length),
  };
}

/** Returns the text of a token that is not the first of a text. */
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
