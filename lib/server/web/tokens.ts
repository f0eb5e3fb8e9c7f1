// Tokens with their log-probabilities, from both forms of OpenAI's.

/** A token, and the natural logarithm of its probability. */
export interface Candidate {
  text: string;
  logprob: number;
}

/** A generated token, and the most likely tokens at its place, the likeliest first. */
export interface Token extends Candidate {
  top: Candidate[];
}

/** A piece of an answer, and the tokens that it consists of: one, or those of a character that needs several. */
export interface Piece {
  text: string;
  tokens: Token[];
}

/** Log-probabilities of a part of a chat completion. */
export interface ChatLogprobs {
  content: { token: string; logprob: number; top_logprobs: { token: string; logprob: number }[] }[];
}

/** Log-probabilities of a part of a text completion. */
export interface TextLogprobs {
  tokens: string[];
  token_logprobs: number[];
  top_logprobs: Record<string, number>[];
}

/** Returns the tokens of a part of an answer; none if the server gives no probabilities. */
export function tokensOf(logprobs: ChatLogprobs | TextLogprobs | null | undefined): Token[] {
  if (!logprobs) return [];
  if ("content" in logprobs)
    return logprobs.content.map(({ token, logprob, top_logprobs }) => ({
      ...{ text: token, logprob },
      top: sorted(top_logprobs.map(({ token, logprob }) => ({ text: token, logprob }))),
    }));
  return logprobs.tokens.map((text, i) => ({
    ...{ text, logprob: logprobs.token_logprobs[i]! },
    top: sorted(Object.entries(logprobs.top_logprobs[i]!).map(([text, logprob]) => ({ text, logprob }))),
  }));
}

function sorted(candidates: Candidate[]): Candidate[] {
  return candidates.sort((a, b) => b.logprob - a.logprob);
}

/**
 * Returns the pieces of a part of an answer. There is one for each token if the tokens' texts make up the part's. They do
 * not if a token is a part of a character, or if a stop text has been cut off; all tokens then belong to one piece.
 */
export function piecesOf(text: string, tokens: readonly Token[]): Piece[] {
  const texts = tokens.map((token) => token.text);
  // The first token of an answer may have lost the space before it.
  if (texts.length > 0 && !text.startsWith(texts[0]!)) texts[0] = texts[0]!.trimStart();
  if (texts.length === 0 || texts.join("") !== text) return [{ text, tokens: [...tokens] }];
  return tokens.map((token, i) => ({ text: texts[i]!, tokens: [token] }));
}
