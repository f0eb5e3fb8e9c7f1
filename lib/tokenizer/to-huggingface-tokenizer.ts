import { HeedError } from "../util/errors.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import type { Tokenizer } from "./tokenizer.js";

/**
 * Returns the tokenizer as a `HuggingFaceTokenizer`, the form that other tools read.
 *
 * @throws ERR_ARGUMENT if the tokenizer cannot be converted.
 */
export function toHuggingFaceTokenizer(tokenizer: Tokenizer): HuggingFaceTokenizer {
  if (tokenizer instanceof HuggingFaceTokenizer) return tokenizer;
  const other = tokenizer.toHuggingFace?.();
  if (other) return other;
  const { name } = tokenizer.constructor;
  throw new HeedError("ERR_ARGUMENT", `expected a tokenizer that tokenizer.json can describe, got a ${name}`);
}
