/** Tests heed's own tokenizers in the form that other tools read. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { mergesOf } from "../../lib/tokenizer/byte-pair-encoding.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { Gpt2Tokenizer } from "../../lib/tokenizer/gpt2-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";

const alphabet = "The quick brown fox’s 123 日本語 é\n\t👍🏽!<|endoftext|>";
const characters = Array.from(alphabet);
const texts = fc.array(fc.constantFrom(...characters, "the ", "ing", "  ", "'ll", "\r\n"), { maxLength: 30 });

function expectSame(own: Tokenizer, texts: fc.Arbitrary<string[]>): void {
  const other = own.toHuggingFace!();
  expect(other.vocabularySize).toBe(own.vocabularySize);
  expect(other.endOfText).toBe(own.endOfText);
  fc.assert(
    fc.property(texts, (parts) => {
      const text = parts.join("");
      const ids = own.encode(text);
      expect(other.encode(text)).toEqual(ids);
      expect(other.decode(ids)).toBe(own.decode(ids));
    }),
  );
}

test("bytes", () => expectSame(new ByteTokenizer(), texts));

test("characters", () => {
  const own = new CharTokenizer(alphabet);
  expectSame(own, fc.array(fc.constantFrom(...characters), { maxLength: 30 }));
  expect(own.toHuggingFace().encode("Ω")).toHaveLength(0);
});

test("GPT-2's", { timeout: 60_000 }, async () => expectSame(await Gpt2Tokenizer.load(), texts));

test("merges of ranks", () => {
  const ranks = new Map(["a", "b", "c", "ab", "bc", "abc", "cabc", "zz"].map((token, rank) => [token, rank]));
  expect(mergesOf(ranks)).toEqual([
    ["a", "b"],
    ["b", "c"],
    ["ab", "c"],
    ["c", "abc"],
    ["z", "z"],
  ]);
  const unreachable = new Map([
    ["a", 0],
    ["xyz", 1],
  ] as const);
  expect(mergesOf(unreachable)).toEqual([]);
});
