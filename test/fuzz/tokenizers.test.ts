/** Tokenizers beside Hugging Face's own, in Rust (@anush008/tokenizers): the same ids, the same texts. */
import { Tokenizer as Rust } from "@anush008/tokenizers";
import fc from "fast-check";
import { expect } from "vitest";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import {
  anyText,
  byteLevelJson,
  byteLevelTokenizer,
  spacedJson,
  spacedTokenizer,
  wordPieceJson,
  wordPieceTokenizer,
} from "../support/random-tokenizers.js";
import { fuzz } from "./fuzz.js";

/** Of several ways to cut a text with the same score, rounding chooses: `ties` leaves out the order of the ids. */
async function expectSame(json: object, text: string, { ties = false } = {}): Promise<void> {
  const own = new HuggingFaceTokenizer(json);
  const rust = Rust.fromString(JSON.stringify(json));
  const ids = (await rust.encode(text)).getIds();
  const ordered = (list: readonly number[]) => (ties ? [...list].sort((a, b) => a - b) : list);
  expect(ordered([...own.encode(text, { special: true })])).toEqual(ordered(ids));
  expect(own.decode(ids)).toBe(await rust.decode(ids, true));
  expect(own.decode(ids, { special: true })).toBe(await rust.decode(ids, false));
}

fuzz(
  "byte-level tokenizers",
  fc.tuple(byteLevelTokenizer(), anyText),
  { ci: 500, nightly: 50_000 },
  ([choices, text]) => expectSame(byteLevelJson(choices), text),
);

fuzz("SentencePiece's kind", fc.tuple(spacedTokenizer(), anyText), { ci: 500, nightly: 50_000 }, ([choices, text]) =>
  expectSame(spacedJson(choices), text, { ties: choices.unigram }),
);

fuzz("WordPiece", fc.tuple(wordPieceTokenizer, anyText), { ci: 500, nightly: 50_000 }, ([choices, text]) =>
  expectSame(wordPieceJson(choices), text),
);
