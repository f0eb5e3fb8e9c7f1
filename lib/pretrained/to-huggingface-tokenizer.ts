import { HeedError } from "../errors.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** The tokenizer in the form that others' tools read. Throws ERR_ARGUMENT for one that has no such form. */
export function toHuggingFaceTokenizer(tokenizer: Tokenizer): HuggingFaceTokenizer {
  if (tokenizer instanceof HuggingFaceTokenizer) return tokenizer;
  const other = tokenizer.toHuggingFace?.();
  if (other) return other;
  const { name } = tokenizer.constructor;
  throw new HeedError("ERR_ARGUMENT", `expected a tokenizer that tokenizer.json has a form for, got a ${name}`);
}
