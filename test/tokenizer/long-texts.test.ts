/**
 * A long text is searched and normalized in slices: the results at their borders must be the same as for the whole
 * text.
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { libraryParts } from "../../lib/tokenizer/library-parts.js";
import { CharacterMap } from "../../lib/tokenizer/character-map.js";
import { beginsAnew, normalizerOf } from "../../lib/tokenizer/normalizer.js";
import { expressionPattern } from "../../lib/tokenizer/text-pattern.js";
import { atOnce } from "../../lib/util/turns.js";
import { byteLevelJson, unigramJson } from "./fixtures.js";

const forms = ["NFC", "NFD", "NFKC", "NFKD"];

test("no character that composes with the one before it begins a new slice", () => {
  const wrong: string[] = [];
  for (let code = 0; code < 0x110000; code++) {
    const [, ...later] = String.fromCodePoint(code).normalize("NFD");
    wrong.push(...later.filter(beginsAnew));
  }
  expect(wrong).toEqual([]);
  for (const character of ["\u0301", "\u3099", "ﾞ", "ﾟ", "\u1161", "ﾢ", "\u11a8", "\u0000", "\u200d", "\ufffd"])
    expect([character, beginsAnew(character)]).toEqual([character, character === "ﾢ"]);
  for (const character of ["a", " ", "\n", "中", "가", "é", "👍", "～", "ア"]) expect(beginsAnew(character)).toBe(true);
});

/** Characters that compose, are reordered, are removed or become longer. */
const awkward = fc
  .array(
    fc.constantFrom(
      ..."a é İ Σ ß ﬁ Å ｶﾞ か\u3099 가 \u1100 \u1161 \u11a8 \u0301 \u0323 \u0300\u0323 \u200d \u0000 \ufffd ～ 中 \u{20000} 👩‍🚀 \u302e \n".split(
        " ",
      ),
      "\u00a0",
      "\u2581",
      " ",
    ),
    { maxLength: 30 },
  )
  .map((parts) => parts.join(""));

const fixture = gunzipSync(readFileSync(new URL("../fixtures/sentencepiece.json.gz", import.meta.url))).toString();
const { characters } = JSON.parse(fixture) as { characters: string };

test.each([
  ...forms.map((type) => ({ type })),
  { type: "StripAccents" },
  { type: "Precompiled", precompiled_charsmap: characters },
  { type: "BertNormalizer", clean_text: true, handle_chinese_chars: false, strip_accents: true, lowercase: false },
  { type: "BertNormalizer", clean_text: true, handle_chinese_chars: false, strip_accents: null, lowercase: false },
])("slices normalized by %j are the whole normalized", (config) => {
  // Hugging Face's JavaScript library does not read the map.
  const whole = config.type === "Precompiled" ? new CharacterMap(characters) : libraryParts(config).normalizer;
  const own = normalizerOf(config);
  fc.assert(
    fc.property(awkward, awkward, fc.integer({ min: 8150, max: 8200 }), (before, after, length) => {
      const text = before + "b".repeat(length) + after + "é".repeat(8190) + before + after + "\u0301".repeat(9000);
      expect(atOnce(own(text))).toBe(whole.normalize(text));
    }),
    { numRuns: 30 },
  );
});

describe("windows of 65,536 UTF-16 units", () => {
  const places = [65_525, 65_530, 65_535, 65_536, 65_537, 131_060, 131_072];

  test.each(["\\p{N}{1,3}", " {2,}", "[\u{1f600}😀]+"])("matches of %s", (source) => {
    for (const found of ["12", "  ", "    ", "😀", "😀😀1234567"])
      for (const at of places) {
        const text = `${"ж".repeat(at)}${found}${"x".repeat(70_000)}${found}`;
        const spans = [...expressionPattern(source, { trusted: true }).matches(text)].filter(Boolean);
        const expected = Array.from(text.matchAll(new RegExp(source, "gu")), ({ 0: { length }, index }) => [
          index,
          index + length,
        ]);
        expect(spans).toEqual(expected);
      }
  });

  test("added tokens", () => {
    const names = ["<tool>", "😀!", "<too", "<tool><tool>x"];
    const added = names.map((content, i) => ({ id: 300 + i, content, special: false, normalized: i % 2 === 1 }));
    const tokenizer = new HuggingFaceTokenizer({ ...byteLevelJson(), added_tokens: added, post_processor: null });
    for (const at of places) {
      const text = `${"a".repeat(at)}<tool><tool>😀!${"b".repeat(70_000)}<tool>x`;
      const ids = [...tokenizer.encode(text)];
      expect(ids.filter((id) => id >= 300)).toEqual([300, 300, 301, 300]);
      expect(tokenizer.decode(ids)).toBe(text);
    }
  });
});

test("a long word without a place to split it is encoded as a whole", async () => {
  const tokenizer = new HuggingFaceTokenizer(unigramJson());
  const text = "abc".repeat(20_000) + "x" + "ab".repeat(20_000);
  const ids = await tokenizer.encodeAsync(text);
  expect(ids).toEqual(tokenizer.encode(text));
  // Derived by hand: ab (-1) and c (-2) each time; the first one, after ▁, is cheaper as ▁a (-2) and bc (-3).
  expect([...ids.slice(0, 5)]).toEqual([4, 9, 6, 10, 6]);
  expect([...ids.slice(-3)]).toEqual([6, 6, 2]);
});

test("an expression that heed searches for itself keeps its place while others search", async () => {
  const split = { type: "Split", pattern: { Regex: "(?:ab)+|[^b]" }, behavior: "Isolated", invert: false };
  const tokenizer = new HuggingFaceTokenizer({
    ...byteLevelJson(),
    pre_tokenizer: { type: "Sequence", pretokenizers: [split, { type: "ByteLevel", use_regex: false }] },
  });
  const texts = ["abab hello ".repeat(3000), "hello abb".repeat(3000)];
  const together = await Promise.all(texts.map((text) => tokenizer.encodeAsync(text)));
  expect(together).toEqual(texts.map((text) => tokenizer.encode(text)));
});
