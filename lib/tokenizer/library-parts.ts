// Hugging Face's library for JavaScript, of which heed has the normalizers that know Unicode, and the translation of
// regular expressions.
import { createRequire } from "node:module";

export interface LibraryNormalizer {
  normalize(text: string): string;
}

interface Library {
  Tokenizer: new (json: object, config: object) => { normalizer: LibraryNormalizer | null };
}

const require = createRequire(import.meta.url);

/** The library's parts of a tokenizer.json with this normalizer. Throws what the library does. */
export function libraryParts(normalizer: unknown): { normalizer: LibraryNormalizer } {
  // Loaded here, since most programs have a tokenizer of another kind.
  const { Tokenizer } = require("@huggingface/tokenizers") as Library;
  const others = { pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  const model = { type: "BPE", vocab: {}, merges: [] };
  return new Tokenizer({ ...others, normalizer, model }, {}) as { normalizer: LibraryNormalizer };
}
