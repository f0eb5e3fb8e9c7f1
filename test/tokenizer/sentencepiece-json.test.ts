/** A SentencePiece vocabulary in the form of a tokenizer.json must encode according to its scores. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import path from "node:path";
import { Tokenizer as Rust } from "@anush008/tokenizers";
import fc from "fast-check";
import { expect, test } from "vitest";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { type Piece, sentencePieceJson } from "../../lib/tokenizer/sentencepiece-json.js";
import { atOnce } from "../../lib/util/turns.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";
import { expectError } from "../support/errors.js";

const bytes = Array.from({ length: 256 }, (_, byte): Piece => {
  return { text: `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, score: 0, kind: "byte" };
});
const normal = (text: string, score: number): Piece => ({ text, score, kind: "normal" });
const pieces: Piece[] = [
  { text: "<unk>", score: 0, kind: "unknown" },
  { text: "<s>", score: 0, kind: "control" },
  { text: "</s>", score: 0, kind: "control" },
  ...bytes,
  normal("\u2581a", -1),
  normal("ab", -2),
  normal("bc", -3),
  normal("abc", -4),
  normal("\u2581", -10),
  normal("a", -11),
  normal("b", -12),
  normal("c", -13),
  { text: "<tool>", score: 0, kind: "user" },
];
const id = (text: string) => pieces.findIndex((piece) => piece.text === text);
const ids = (...texts: string[]) => Int32Array.from(texts, id);
const tokenizerOf = (...options: Parameters<typeof sentencePieceJson> extends [unknown, ...infer R] ? R : never) =>
  new HuggingFaceTokenizer(atOnce(sentencePieceJson(pieces, ...options)), {
    config: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" },
  });

test("the best merge first, the leftmost of equal ones", () => {
  const tokenizer = tokenizerOf();
  for (const [text, expected] of [
    ["ab", ids("\u2581a", "b")],
    ["abc", ids("\u2581a", "bc")],
    ["c abc", ids("\u2581", "c", "\u2581a", "bc")],
    ["cabc", ids("\u2581", "c", "abc")],
    ["bbc", ids("\u2581", "b", "bc")],
    ["é", ids("\u2581", "<0xC3>", "<0xA9>")],
    ["\n", ids("\u2581", "<0x0A>")],
    ["<s>", ids("\u2581", "<0x3C>", "<0x73>", "<0x3E>")],
    ["", ids()],
  ] as const) {
    expect(tokenizer.encode(text), text).toEqual(expected);
    expect(tokenizer.decode(expected)).toBe(text);
  }
  expect(tokenizer.encode("a<tool>")).toEqual(ids("\u2581a", "<tool>"));
  expect(tokenizer.encode("<s>a", { special: true })).toContain(1);
});

test("tokens that are put around a text", () => {
  expect(tokenizerOf({ before: ["<s>"], after: ["</s>"] }).encode("a")).toEqual(ids("<s>", "\u2581a", "</s>"));
  const bare = tokenizerOf({ spacePrefix: false });
  expect(bare.encode("a a")).toEqual(ids("a", "\u2581a"));
  expect(bare.decode(bare.encode(" a"))).toBe(" a");
});

const stories = sharedModel("stories260K");
describeUnless(!stories && noShared)("stories260K", async () => {
  const own = stories ? await Llama2cTokenizer.fromFile(path.join(stories, "tok512.bin")) : null!;
  const other = stories ? own.toHuggingFace() : null!;

  test("the same ids and texts as with llama2.c's tokenizer", () => {
    expect(other.vocabularySize).toBe(512);
    expect([other.beginningOfText, other.endOfText]).toEqual([1, 2]);
    const text = readFileSync(path.join(stories!, "EXPECTED_greedy.txt"), "utf8");
    expect(other.encode(text)).toEqual(own.encode(text));
    expect(other.decode(own.encode(text))).toBe(text);
    const words = fc.constantFrom("Once upon a time, ", "Lily", "there was", " ", "\n", "é", "日本", '"Hi!"', "<s>");
    fc.assert(
      fc.property(
        fc.array(fc.oneof(words, fc.string({ unit: "grapheme", maxLength: 5 })), { maxLength: 8 }),
        (parts) => {
          const text = parts.join("").replaceAll("\u2581", "_");
          expect(other.encode(text)).toEqual(own.encode(text));
          expect(other.decode(own.encode(text))).toBe(own.decode(own.encode(text)));
        },
      ),
    );
  });
});

interface Trained {
  pieces: [text: string, score: number, kind: Piece["kind"]][];
  cases: [text: string, ids: number[]][];
}

const file = new URL("../fixtures/sentencepiece.json.gz", import.meta.url);
const fixture = JSON.parse(gunzipSync(readFileSync(file)).toString()) as { characters: string; models: Trained[] };

test("the ids are SentencePiece's, with runs of spaces and pieces of equal scores", () => {
  for (const { pieces, cases } of fixture.models) {
    const list = pieces.map(([text, score, kind]) => ({ text, score, kind }));
    const tokenizer = new HuggingFaceTokenizer(atOnce(sentencePieceJson(list)), { config: { unk_token: "<unk>" } });
    for (const [text, ids] of cases) expect([text, ...tokenizer.encode(text)]).toEqual([text, ...ids]);
  }
});

test("a model's own map of characters is used", async () => {
  const characters = "abcdefi1.A é e\u0301ﬁ①…Ａ\t\r\n­が株式会社";
  const vocab = Object.fromEntries(Array.from(new Set(characters), (character, id) => [character, id]));
  const json = {
    ...{ version: "1.0", truncation: null, padding: null, added_tokens: [], pre_tokenizer: null, post_processor: null },
    normalizer: { type: "Precompiled", precompiled_charsmap: fixture.characters },
    decoder: { type: "Fuse" },
    model: { type: "BPE", vocab: { ...vocab, "?": 99 }, merges: [], unk_token: "?", byte_fallback: false },
  };
  const rust = Rust.fromString(JSON.stringify(json));
  const own = new HuggingFaceTokenizer(json);
  const single = [
    "ﬁﬁ",
    "Ａb",
    "①",
    "a\tb\r\nc\rd",
    "e\u0301",
    "e\u0301\u0323",
    "é",
    "…",
    "㍿",
    "a­b",
    "が",
    "か\u3099",
    "x\u0301",
    "👩‍👩‍👧",
    "a\0b",
  ];
  const long = `${"ﬁ ".repeat(5000)}\r\n${"\r\n".repeat(6000)}`;
  for (const text of [...single, single.join(""), long])
    expect([...own.encode(text)]).toEqual((await rust.encode(text)).getIds());
  expect(own.decode(own.encode("ﬁ①…e\u0301"))).toBe("fi1...é");
});

test.each(["", "AAAA", "////", null, 3])("%j is no map of characters", (map) => {
  const normalizer = { type: "Precompiled", precompiled_charsmap: map };
  const json = { ...(atOnce(sentencePieceJson(pieces)) as object), normalizer };
  expectError(() => new HuggingFaceTokenizer(json), "ERR_FORMAT", /precompiled_charsmap to be a compiled map/);
});
