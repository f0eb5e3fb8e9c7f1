// Access to Hugging Face's JavaScript library. heed uses two parts of it: the normalizers that rely on Unicode's
// tables, and the translation of regular expressions.
import { createRequire } from "node:module";

export interface LibraryNormalizer {
  normalize(text: string): string;
}

interface Library {
  Tokenizer: new (json: object, config: object) => { normalizer: LibraryNormalizer | null };
}

const require = createRequire(import.meta.url);

/**
 * Returns the library's parts of a tokenizer.json with this normalizer.
 *
 * @throws the library's own error if it rejects the normalizer.
 */
export function libraryParts(normalizer: unknown): { normalizer: LibraryNormalizer } {
  // The library is loaded here and not at the top, since most programs use a tokenizer that does not need it.
  const { Tokenizer } = require("@huggingface/tokenizers") as Library;
  const others = { pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  const model = { type: "BPE", vocab: {}, merges: [] };
  return new Tokenizer({ ...others, normalizer, model }, {}) as { normalizer: LibraryNormalizer };
}
