/** A token, and the natural logarithm of the probability that the model gave it. */
export interface TokenLogprob {
  token: number;
  /** Natural logarithm of the token's probability, before temperature, penalties and other options change it. */
  logprob: number;
}

/** A generated token with its log-probability, and those of the most likely tokens at its place. */
export interface TokenLogprobs extends TokenLogprob {
  /** The most likely tokens at this place, the likeliest first. */
  top: TokenLogprob[];
}
