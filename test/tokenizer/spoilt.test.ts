/**
 * Tokenizers from strangers: errors in their files are refused with a reason, and cost no more than the file's size.
 */
import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { type Piece, sentencePieceJson } from "../../lib/tokenizer/sentencepiece-json.js";
import { atOnce } from "../../lib/util/turns.js";
import { tokenizerFromFile } from "../../lib/tokenizer/from-json.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { byteLevelJson, unigramJson, unigramPieces, wordPieceJson } from "./fixtures.js";

const refused = (json: unknown, message: RegExp) =>
  expectError(() => new HuggingFaceTokenizer(json), "ERR_FORMAT", message);

type Json = Record<string, unknown>;
const withModel = (json: Json, model: Json): Json => ({ ...json, model: { ...(json.model as Json), ...model } });
const [bytes, words, unigram] = [byteLevelJson(), wordPieceJson(), unigramJson()];

const jsonOf = (given: Piece[]) => atOnce(sentencePieceJson(given));

/** Returns normal pieces after those that every SentencePiece vocabulary has. */
function pieces(texts: readonly string[]): Piece[] {
  const byte = (_: unknown, byte: number): Piece => {
    return { text: `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, score: 0, kind: "byte" };
  };
  const normal = texts.map((text, i): Piece => ({ text, score: -i, kind: "normal" }));
  return [{ text: "<unk>", score: 0, kind: "unknown" }, ...Array.from({ length: 256 }, byte), ...normal];
}

describe("merges of a SentencePiece vocabulary", () => {
  test("for a token of 300,000 characters", () => {
    const long = "ab".repeat(150_000);
    const started = performance.now();
    const json = jsonOf(pieces([long, "a", "b", "ab", long.slice(0, -2)]));
    expect(performance.now() - started).toBeLessThan(3000);
    const { merges } = json.model as { merges: [string, string][] };
    expect(merges.map((merge) => merge.map((text) => text.length))).toEqual([
      [299_998, 2],
      [2, 299_998],
      [1, 1],
    ]);
    expect(new HuggingFaceTokenizer(json).encode("abab")).toHaveLength(5);
  });

  test("for tokens that are all beginnings and ends of others", () => {
    const texts = Array.from({ length: 600 }, (_, i) => "a".repeat(i + 1));
    expectError(() => jsonOf(pieces(texts)), "ERR_FORMAT", /ways to join two pieces into a third, got more/);
    const few = (jsonOf(pieces(texts.slice(0, 100))).model as { merges: unknown[] }).merges;
    expect(few).toHaveLength((99 * 100) / 2);
  });

  test("only between characters of two UTF-16 units", () => {
    const [grin, smile] = ["\u{1f600}", "\u{1f603}"];
    const { merges } = jsonOf(pieces([grin + smile, grin, smile, "\ud83d", "\ude00"])).model as {
      merges: unknown;
    };
    expect(merges).toEqual([[grin, smile]]);
  });
});

test("invalid parts", () => {
  for (const part of [1, "a", true, [], ["a"], [null]])
    for (const name of ["normalizer", "pre_tokenizer", "post_processor", "decoder", "model"])
      refused({ ...bytes, [name]: part }, /^tokenizer/);
  refused({ ...bytes, added_tokens: {} }, /added_tokens to be an array/);
  for (const json of [null, 1, "a", []]) refused(json, /a tokenizer.json to be an object/);
});

const singleOnly = { type: "TemplateProcessing", single: [{ Sequence: { id: "A", type_id: 0 } }] };
test.each([
  [{ type: "TemplateProcessing" }, /template \(single\) to be an array, got undefined/],
  [{ type: "TemplateProcessing", single: null }, /template \(single\) to be an array, got null/],
  [{ type: "TemplateProcessing", single: [null] }, /SpecialToken or Sequence A/],
  [{ type: "TemplateProcessing", single: [{ SpecialToken: null }] }, /SpecialToken or Sequence A/],
  [{ type: "TemplateProcessing", single: [{ SpecialToken: { id: 1 } }] }, /SpecialToken or Sequence A/],
  [{ type: "TemplateProcessing", single: [] }, /template to contain one text/],
  [
    { type: "TemplateProcessing", single: [{ Sequence: { id: "A" } }, { Sequence: { id: "A" } }] },
    /template to contain one text/,
  ],
  [
    { type: "TemplateProcessing", single: [{ Sequence: { id: "A" } }, { SpecialToken: { id: "none" } }] },
    /tokens of the vocabulary, got "none"/,
  ],
  [{ ...singleOnly, pair: 7 }, /template \(pair\) to be an array, got 7/],
  [{ ...singleOnly, pair: [{ Sequence: { id: "C" } }] }, /SpecialToken or Sequence A or B/],
  [{ ...singleOnly, pair: [{ Sequence: { id: "A" } }] }, /template to contain each text once/],
  [{ ...singleOnly, pair: [{ Sequence: { id: "A", type_id: -1 } }] }, /type_id .+ integer of at least 0, got -1/],
  [{ type: "BertProcessing", cls: null, sep: ["<|end|>", 266] }, /cls to be a token and its id, got null/],
  [{ type: "RobertaProcessing", cls: ["<|begin|>", 265] }, /sep to be a token and its id, got undefined/],
  [{ type: "Sequence", processors: {} }, /processors to be an array/],
  [{ type: "Sequence", processors: [7] }, /post-processor of type ByteLevel/],
  [nested(20), /at most 8 deep/],
])("a post-processor %j", (post_processor, message) => refused({ ...bytes, post_processor }, message));

function nested(depth: number): unknown {
  return depth === 0 ? { type: "ByteLevel" } : { type: "Sequence", processors: [nested(depth - 1)] };
}

test("tokens that a sequence of post-processors puts around a text", () => {
  const template = (before: string, after: string) => ({
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: before } }, { Sequence: { id: "A" } }, { SpecialToken: { id: after } }],
  });
  const processors = [
    { type: "ByteLevel" },
    template("<|begin|>", "<|end|>"),
    { type: "BertProcessing", cls: ["<|user|>", 267], sep: ["<tool>", 268] },
  ];
  const tokenizer = new HuggingFaceTokenizer({ ...bytes, post_processor: { type: "Sequence", processors } });
  expect([tokenizer.before, tokenizer.after]).toEqual([
    [267, 265],
    [266, 268],
  ]);
});

test("models", () => {
  refused(withModel(unigram, { unk_id: 11 }), /unk_id to be an id below 11, got 11/);
  refused(withModel(unigram, { unk_id: "0" }), /unk_id to be an id below 11, got "0"/);
  refused(withModel(unigram, { unk_id: 0.5 }), /unk_id/);
  refused(withModel(unigram, { vocab: [["a", Infinity]] }), /vocab\[0\]/);
  refused(withModel(unigram, { vocab: [] }), /tokenizer.json/);
  const long = [...unigramPieces, ["a".repeat(5e6), -1]];
  refused(withModel(unigram, { vocab: long }), /pieces with at most 4194304 different beginnings/);
  refused(withModel(unigram, { byte_fallback: "true" }), /byte_fallback to be true or false, got "true"/);
  refused(withModel(words, { unk_token: 3 }), /unk_token to be a token, got 3/);
  refused(withModel(words, { max_input_chars_per_word: 1e9 }), /max_input_chars_per_word to be an integer of at most/);
  refused(withModel(words, { max_input_chars_per_word: "100" }), /max_input_chars_per_word/);
  refused(withModel(words, { continuing_subword_prefix: 1 }), /continuing_subword_prefix to be a string/);
  refused(withModel(bytes, { merges: null }), /model.type|merges to be an array/);
  refused(withModel(bytes, { merges: ["h e", 7] }), /merges\[1\] to be two tokens, got 7/);
  refused(withModel(bytes, { merges: ["h e l"] }), /merges\[0\] to be two tokens/);
  refused(withModel(bytes, { merges: [["h", "z"]] }), /the token "hz" of model.merges\[0\]/);
  refused(withModel(bytes, { vocab: { a: 2 ** 21 } }), /id of "a"/);
});

test("flags of the wrong type", () => {
  const token = { id: 269, content: "<x>", special: false };
  for (const name of ["special", "single_word", "lstrip", "rstrip", "normalized"])
    refused({ ...bytes, added_tokens: [{ ...token, [name]: "false" }] }, new RegExp(`${name} to be true or false`));
  const strip = { type: "Strip", content: " ", start: "1", stop: 0 };
  refused(
    { ...bytes, decoder: { type: "Sequence", decoders: [strip] } },
    /start to be an integer of at least 0, got "1"/,
  );
  refused({ ...bytes, decoder: { type: "Metaspace", replacement: 1 } }, /replacement to be a string, got 1/);
});

test("normalizers that would make a text grow forever", () => {
  const double = { type: "Replace", pattern: { String: "a" }, content: "aa" };
  const endless = { type: "Sequence", normalizers: Array.from({ length: 60 }, () => double) };
  refused({ ...bytes, normalizer: endless }, /normalizers to return at most/);
  refused({ ...bytes, normalizer: { ...double, content: "a".repeat(1e6) } }, /content of at most 256 characters/);
  refused({ ...bytes, normalizer: { type: "Prepend", prepend: 3 } }, /prepend of at most 256 characters, got 3/);
});

test("an expression that is too large", () => {
  const pattern = { Regex: "a".repeat(300_000) };
  const message = /^(?=.*regular expression of at most 2048 steps).{0,600}$/s;
  refused({ ...bytes, decoder: { type: "Replace", pattern, content: "" } }, message);
  const split = { type: "Split", pattern, behavior: "Isolated", invert: false };
  refused({ ...bytes, pre_tokenizer: split }, message);
});

test("a text of one word with 130,000 tokens, in a Unigram vocabulary", () => {
  const tokenizer = new HuggingFaceTokenizer(unigram);
  expect(tokenizer.encode("c".repeat(130_000)).length).toBeGreaterThan(129_000);
});

test("20,000 added tokens", () => {
  const added = Array.from({ length: 20_000 }, (_, i) => {
    return { id: 300 + i, content: `<extra_${i}>`, special: false, normalized: i % 2 === 0 };
  });
  const tokenizer = new HuggingFaceTokenizer({ ...bytes, added_tokens: added, post_processor: null });
  const ids = [0, 7, 70, 19_999];
  const text = ids.map((i) => `<extra_${i}>`).join("hello");
  expect([...tokenizer.encode(text)].filter((id) => id >= 300)).toEqual(ids.map((i) => 300 + i));
});

describe("files", () => {
  test("larger than a JavaScript string, or than Node reads", async () => {
    const folder = temporaryFolder();
    for (const bytes of [2 ** 28 + 1, 3 * 2 ** 30]) {
      for (const name of ["tokenizer.json", "heed-tokenizer.json", "tokenizer.bin"]) {
        writeFileSync(path.join(folder, name), "");
        truncateSync(path.join(folder, name), bytes);
      }
      const message = /expected a file of at most 268435456 bytes, got/;
      await expectRejection(HuggingFaceTokenizer.fromFolder(folder), "ERR_FORMAT", message);
      await expectRejection(tokenizerFromFile(path.join(folder, "heed-tokenizer.json")), "ERR_FORMAT", message);
      await expectRejection(Llama2cTokenizer.fromFile(path.join(folder, "tokenizer.bin")), "ERR_FORMAT", message);
    }
  });

  test("deeper than the stack", async () => {
    const folder = temporaryFolder();
    const deep = (open: string, close: string) => open.repeat(20_000) + close.repeat(20_000);
    for (const name of ["normalizer", "pre_tokenizer", "post_processor", "decoder"]) {
      const text = JSON.stringify({ ...bytes, [name]: "?" });
      const part = deep('{"type":"Sequence","normalizers":[', "]}").replaceAll("normalizers", `${list[name]}`);
      writeFileSync(
        path.join(folder, "tokenizer.json"),
        text.replace('"?"', () => part),
      );
      await expectRejection(HuggingFaceTokenizer.fromFolder(folder), "ERR_FORMAT", /tokenizer/);
    }
    writeFileSync(path.join(folder, "heed-tokenizer.json"), deep("[", "]"));
    await expectRejection(tokenizerFromFile(path.join(folder, "heed-tokenizer.json")), "ERR_FORMAT", /tokenizer/);
  });
});

const list: Record<string, string> = {
  normalizer: "normalizers",
  pre_tokenizer: "pretokenizers",
  post_processor: "processors",
  decoder: "decoders",
};
