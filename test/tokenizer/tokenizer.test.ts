import fc from "fast-check";
import * as reference from "gpt-tokenizer/encoding/r50k_base";
import { describe, expect, test } from "vitest";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { tokenizerFromJSON } from "../../lib/tokenizer/from-json.js";
import { Gpt2Tokenizer } from "../../lib/tokenizer/gpt2-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";

const gpt2 = await Gpt2Tokenizer.load();
const byte = new ByteTokenizer();

/** Any UTF-16, including lone surrogates, with texts that are difficult for tokenizers. */
const anyText = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string({ unit: "grapheme" }),
      fc.string(),
      fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)),
      fc.constantFrom(
        " ",
        "  ",
        "\n\n",
        "\t",
        "\u00a0",
        "\u0085",
        "\ufeff",
        "'s",
        "'ll",
        "don't",
        "Hello world",
        "日本語",
      ),
      fc.constantFrom("<|endoftext|>", "👩‍👩‍👧", "é", "e\u0301", "\ud800", "\udc00", "1234567", "العربية", " a", "\0"),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""));

/** Replaces lone surrogates, as every encoder of UTF-8 does. */
const wellFormed = (text: string) => Buffer.from(text).toString();

describe.each<[string, (text: string) => Tokenizer]>([
  ["ByteTokenizer", () => byte],
  ["Gpt2Tokenizer", () => gpt2],
  ["CharTokenizer", (text) => new CharTokenizer(`a${text}`)],
])("%s", (_, tokenizerOf) => {
  test("decodes what it encodes", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const tokenizer = tokenizerOf(text);
        const ids = tokenizer.encode(text);
        expect(ids).toBeInstanceOf(Int32Array);
        expect(ids.every((id) => id >= 0 && id < tokenizer.vocabularySize)).toBe(true);
        expect(tokenizer.decode(ids)).toBe(wellFormed(text));
      }),
      { numRuns: 500 },
    );
  });

  test("streams the same text as it decodes, in whole characters, for any ids", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1e6)), anyText, (numbers, text) => {
        const tokenizer = tokenizerOf(text);
        const ids = [...tokenizer.encode(text), ...numbers.map((n) => n % tokenizer.vocabularySize)];
        const stream = tokenizer.stream();
        const texts = ids.map((id) => stream.push(id));
        for (const part of texts) expect(wellFormed(part)).toBe(part);
        expect(texts.join("") + stream.end()).toBe(tokenizer.decode(ids));
      }),
    );
  });

  test("streams a text without replacement characters", () => {
    const text = "naïve 日本語 👩‍👩‍👧 fin";
    const tokenizer = tokenizerOf(text);
    const stream = tokenizer.stream();
    const parts = [...tokenizer.encode(text)].map((id) => stream.push(id));
    expect(parts.join("")).toBe(text);
    expect(stream.end()).toBe("");
  });

  test("keeps streams apart", () => {
    const tokenizer = tokenizerOf("日é");
    const [a, b] = [tokenizer.stream(), tokenizer.stream()];
    const ids = [tokenizer.encode("日"), tokenizer.encode("é")] as const;
    let texts = "";
    for (let i = 0; i < Math.max(ids[0].length, ids[1].length); i++) {
      if (i < ids[0].length) texts += a.push(ids[0][i]!);
      if (i < ids[1].length) texts += b.push(ids[1][i]!);
    }
    expect(Array.from(texts).sort()).toEqual(["é", "日"]);
  });

  test("refuses ids outside the vocabulary", () => {
    const tokenizer = tokenizerOf("abc");
    for (const id of [-1, tokenizer.vocabularySize, 0.5, NaN, "toString" as unknown as number])
      expect(() => tokenizer.decode([id])).toThrow(
        expect.objectContaining({ code: "ERR_RANGE", message: expect.stringContaining(`got ${id}`) }),
      );
  });

  test("can be restored from JSON", async () => {
    const text = "Hello, 日本語 __proto__";
    const tokenizer = tokenizerOf(text);
    const copy = await tokenizerFromJSON(JSON.parse(JSON.stringify(tokenizer)));
    expect(copy.vocabularySize).toBe(tokenizer.vocabularySize);
    expect(copy.encode(text)).toEqual(tokenizer.encode(text));
    expect(copy.toJSON()).toEqual(tokenizer.toJSON());
  });
});

test("ByteTokenizer gives the bytes of UTF-8", () => {
  expect([...byte.encode("aé€😀")]).toEqual([0x61, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80]);
  expect([...byte.encode("\ud800")]).toEqual([0xef, 0xbf, 0xbd]);
  expect(byte.decode([0xf0, 0x9f])).toBe("\ufffd");
  expect(byte.decode([0xff, 0x61])).toBe("\ufffda");
  expect(byte.decode([0xef, 0xbb, 0xbf, 0x61])).toBe("\ufeffa");
});

describe("CharTokenizer", () => {
  test("numbers the characters in the order of their code points", () => {
    const tokenizer = new CharTokenizer("hello 😀 \uffff");
    expect(tokenizer.toJSON()).toEqual({ type: "char", characters: " ehlo\uffff😀" });
    expect(tokenizer.vocabularySize).toBe(7);
    expect([...tokenizer.encode("o😀")]).toEqual([4, 6]);
  });

  test("names a character it does not know", () => {
    expect(() => new CharTokenizer("abc").encode("a€")).toThrow(
      expect.objectContaining({ code: "ERR_RANGE", message: expect.stringContaining('got "€" (U+20AC)') }),
    );
  });

  test("refuses an empty text", () => {
    expect(() => new CharTokenizer("")).toThrow(expect.objectContaining({ code: "ERR_ARGUMENT" }));
  });
});

describe("Gpt2Tokenizer", () => {
  // Published encodings: OpenAI's tokenizer page, and the documentation of Hugging Face's GPT2Tokenizer.
  test.each<[string, number[]]>([
    ["", []],
    ["!", [0]],
    [" ", [220]],
    ["\n", [198]],
    ["\n\n", [628]],
    ["hello", [31373]],
    [" the", [262]],
    ["Hello world", [15496, 995]],
    [" Hello world", [18435, 995]],
    ["Hello, world!", [15496, 11, 995, 0]],
    ["Hello, my dog is cute", [15496, 11, 616, 3290, 318, 13779]],
    ["The quick brown fox jumps over the lazy dog", [464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290]],
  ])("%j", (text, ids) => {
    expect([...gpt2.encode(text)]).toEqual(ids);
    expect(gpt2.decode(ids)).toBe(text);
  });

  test("agrees with the whole of gpt-tokenizer", () => {
    // Its definition of white space is JavaScript's \s: see gpt2-tokenizer.ts. The text of a special token is an error
    // there unless it is allowed.
    const comparable = anyText.map((text) => wellFormed(text).replace(/[\u0085\ufeff]|<\|endoftext\|>/g, ""));
    fc.assert(
      fc.property(comparable, (text) => {
        expect([...gpt2.encode(text)]).toEqual(reference.encode(text));
      }),
      { numRuns: 500 },
    );
    const words = fc.string({
      unit: fc.constantFrom("a", "b", "d", "e", "i", "n", "o", "r", "s", "t", "é", "ß", "語"),
      minLength: 1,
      maxLength: 80,
    });
    fc.assert(
      fc.property(words, (word) => {
        expect([...gpt2.encode(word)]).toEqual(reference.encode(word));
      }),
    );
  });

  test("treats <|endoftext|> as the end of a text only on request", () => {
    const text = "a<|endoftext|>b<|endoftext|>";
    expect([...gpt2.encode(text, { special: true })]).toEqual([64, 50256, 65, 50256]);
    expect(gpt2.decode([64, 50256, 65, 50256])).toBe(text);
    expect(gpt2.encode(text)).not.toContain(50256);
    expect(gpt2.decode(gpt2.encode(text))).toBe(text);
  });

  test("encodes U+0085 as white space and U+FEFF as punctuation", () => {
    expect([...gpt2.encode("a\u0085 b")]).toEqual([...gpt2.encode("a\u0085"), ...gpt2.encode(" b")]);
    expect([...gpt2.encode("a\ufeff\ufeffb")]).toEqual([64, ...gpt2.encode("\ufeff\ufeff"), 65]);
  });

  test.each(["a", " ", "!", "語", "😀", "ab ", "1"])("encodes a long run of %j in time", (unit) => {
    const text = unit.repeat(300_000);
    const started = performance.now();
    const ids = gpt2.encode(text);
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(gpt2.decode(ids)).toBe(text);
  });
});

test.each([
  undefined,
  null,
  1,
  "gpt2",
  [],
  {},
  { type: "toString" },
  { type: "char" },
  { type: "char", characters: "" },
])("tokenizerFromJSON refuses %j", async (json) => {
  await expect(tokenizerFromJSON(json)).rejects.toMatchObject({ code: "ERR_FORMAT" });
});
