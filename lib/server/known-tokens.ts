// Tokens that a client sends in the place of a text.
import { ApiError } from "./api-error.js";

/**
 * Returns tokens that are the value of `param`; `place` says where in it they are, such as "prompt.1".
 *
 * @throws An `ApiError` if the model does not know one of them.
 */
export function knownTokens<T extends ArrayLike<number>>(
  tokens: T,
  vocabulary: number,
  param: string,
  place = param,
): T {
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i]! < vocabulary) continue;
    const text = `${place}.${i}: expected a token from 0 to ${vocabulary - 1}, got ${tokens[i]}.`;
    throw new ApiError(400, text, { param, code: "invalid_value" });
  }
  return tokens;
}
