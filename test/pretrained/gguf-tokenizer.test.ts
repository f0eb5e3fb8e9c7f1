/** Tests the conversion of tokenizers to the metadata of GGUF files and back. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { readGguf } from "../../lib/formats/gguf.js";
import { type GgufInputValue, writeGguf } from "../../lib/formats/write-gguf.js";
import { GgufMetadata } from "../../lib/pretrained/gguf/metadata.js";
import { tokenizerOfGguf } from "../../lib/pretrained/gguf/tokenizer.js";
import { tokenizerToGguf } from "../../lib/pretrained/gguf/write-tokenizer.js";
import { known } from "../../lib/tokenizer/byte-level-pieces.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { testUnless } from "../support/skip.js";
import { byteLevelJson, unigramJson, wordPieceJson } from "../tokenizer/fixtures.js";
import { expectError } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";

let file = "";
beforeEach(() => {
  file = path.join(temporaryFolder(), "model.gguf");
});

async function through(metadata: ReadonlyMap<string, GgufInputValue>): Promise<HuggingFaceTokenizer> {
  const architecture = ["general.architecture", { type: "string", value: "llama" }] as const;
  await writeGguf(file, new Map([architecture, ...metadata]), []);
  await using gguf = await readGguf(file);
  return (await tokenizerOfGguf(new GgufMetadata(file, gguf.metadata)))!;
}

const texts = ["hello world", "hello  hello\n\n 12345 it's", "é <|begin|><tool>x", "Ça va? 日本語 👍🏽", "", "\t\r\n  x"];

test("byte-level, with its special tokens and its template", async () => {
  const config = { bos_token: "<|begin|>", eos_token: "<|end|>", chat_template: "{{ messages[0].content }}<|end|>" };
  const own = new HuggingFaceTokenizer(byteLevelJson(), { config });
  const other = await through(tokenizerToGguf(own));
  expect(other.vocabularySize).toBe(own.vocabularySize);
  expect([other.beginningOfText, other.endOfText]).toEqual([265, 266]);
  for (const text of texts) {
    expect(other.encode(text), text).toEqual(own.encode(text));
    expect(other.encode(text, { special: true })).toEqual(own.encode(text, { special: true }));
    expect(other.decode(own.encode(text))).toBe(own.decode(own.encode(text)));
  }
  const messages = [{ role: "user", content: "hello" }];
  expect(other.encodeChat(messages)).toEqual(own.encodeChat(messages));
});

describe("how text is split", () => {
  // The expected pieces of "it's 12345 words\n\nhere  now!" for each, derived by hand from the published expressions.
  const cut: Record<string, string[]> = {
    "gpt-2": ["it", "'s", " 12345", " words", "\n", "\n", "here", " ", " now", "!"],
    "llama-bpe": ["it", "'s", " ", "123", "45", " words", "\n\n", "here", " ", " now", "!"],
    qwen2: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
    smollm: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n", "\n", "here", " ", " now", "!"],
    tekken: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
    "gpt-4o": ["it's", " ", "123", "45", " words", "\n\n", "here", " ", " now", "!"],
    "deepseek-v3": ["it", "'s", " ", "123", "45", " words", "\n\n", "here", " ", " now", "!"],
    "deepseek-llm": ["it", "'", "s", " ", "12345", " words", "\n", "\n", "here", " ", " now", "!"],
    "deepseek-coder": ["it", "'", "s", " ", "1", "2", "3", "4", "5", " words", "\n", "\n", "here", " ", " now", "!"],
    "command-r": ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n", "\n", "here", " ", " now", "!"],
    dbrx: ["it", "'s", " ", "123", "45", " words", "\n\n", "here", " ", " now", "!"],
    stablelm2: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
    olmo: ["it", "'s", " 12345", " words", "\n", "\n", "here", " ", " now", "!"],
    falcon: ["it", "'", "s", " ", "123", "45", " words", "\n", "\n", "here", " ", " now", "!"],
    bloom: ["it's", " 12345", " words", "\n\n", "here", " ", " now", "!"],
    minicpm5: ["it", "'s", " ", "123", "45", " words", "\n\n", "here", " ", " now", "!"],
    bailingmoe: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
    "exaone-moe": ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
    ufakzeka: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
    spark2_5: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n", "\n", "here", " ", " now", "!"],
    youtu: ["it's", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
    qwen35: ["it", "'s", " ", "1", "2", "3", "4", "5", " words", "\n\n", "here", " ", " now", "!"],
  };
  const others = {
    ...{
      llama3: "llama-bpe",
      "llama-v3": "llama-bpe",
      "deepseek-r1-qwen": "qwen2",
      mpt: "olmo",
      "modern-bert": "olmo",
    },
    ...{ starcoder: "smollm", "smaug-bpe": "dbrx", glm4: "dbrx", llama4: "gpt-4o", "phi-2": "gpt-2" },
    ...{
      mellum2: "smollm",
      talkie: "gpt-4o",
      hy_v4: "deepseek-v3",
      bailingmoe2: "bailingmoe",
      "llada-moe": "bailingmoe",
    },
  };
  const named = Object.entries(cut).map(([name, expected]): [string, string, string[]] => [name, name, expected]);
  for (const [name, written] of Object.entries(others)) named.push([name, written, cut[written]!]);

  test.each(named)("%s", async (pieces, canonical, expected) => {
    // Every part of the text is a token that merges reach, so that only the cuts keep tokens apart.
    const { model } = byteLevelJson();
    const text = expected.join("");
    const written = Array.from(text, (c) => (c === " " ? "Ġ" : c === "\n" ? "Ċ" : c));
    const merges: string[] = [];
    for (let length = 2; length <= 7; length++)
      for (let at = 0; at + length <= written.length; at++) {
        const union = written.slice(at, at + length);
        for (let cut = 1; cut < length; cut++)
          merges.push(`${union.slice(0, cut).join("")} ${union.slice(cut).join("")}`);
      }
    const tokens = [
      ...Object.keys(model.vocab).slice(0, 256),
      ...new Set(merges.map((merge) => merge.replace(" ", ""))),
    ];
    const tokenizer = await through(
      new Map<string, GgufInputValue>([
        ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
        ["tokenizer.ggml.pre", { type: "string", value: pieces }],
        ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
        ["tokenizer.ggml.token_type", { type: "i32s", value: tokens.map(() => 1) }],
        ["tokenizer.ggml.merges", { type: "strings", value: [...new Set(merges)] }],
      ]),
    );
    const got = Array.from(tokenizer.encode(text), (id) => tokenizer.decode([id]));
    expect(got).toEqual(expected);
    const back = tokenizerToGguf(tokenizer);
    expect(back.get("tokenizer.ggml.pre")).toEqual({ type: "string", value: canonical });
    expect((await through(back)).encode(text)).toEqual(tokenizer.encode(text));
  });
});

test("DeepSeek's first models name letters of scripts that have capitals one by one", async () => {
  for (const [text, pieces] of [
    ["αβ Жж", 2],
    ["ԱՖ", 1],
    ["ab", 1],
    ["aա", 2],
    ["aა", 2],
    ["a𝐀", 2],
  ] as const) {
    const rules = known["deepseek-llm"]!.cuts.map((cut) => new RegExp(`(${cut})`, "u"));
    let parts: string[] = [text];
    for (const rule of rules) parts = parts.flatMap((part) => part.split(rule).filter((piece) => piece !== ""));
    expect(parts.length, text).toBe(pieces);
  }
});

test("the token of the beginning is put before a text where the pre-tokenizer says so", async () => {
  for (const [pieces, begins] of [
    ["tekken", true],
    ["llama3", true],
    ["gpt-4o", false],
    ["dbrx", false],
  ] as const) {
    const own = new HuggingFaceTokenizer(byteLevelJson(), { config: { bos_token: "<|begin|>" } });
    const metadata = new Map(tokenizerToGguf(own));
    metadata.set("tokenizer.ggml.pre", { type: "string", value: pieces });
    metadata.delete("tokenizer.ggml.add_bos_token");
    expect((await through(metadata)).before.length, pieces).toBe(begins ? 1 : 0);
  }
});

const stories = sharedModel("stories260K");
testUnless(!stories && noShared)("a map of characters is refused", async () => {
  const own = await Llama2cTokenizer.fromFile(path.join(stories!, "tok512.bin"));
  const metadata = new Map(tokenizerToGguf(own.toHuggingFace()));
  metadata.set("tokenizer.ggml.precompiled_charsmap", { type: "i32s", value: [1, 2, 3] });
  await expect(through(metadata)).rejects.toMatchObject({ code: "ERR_FORMAT" });
});

testUnless(!stories && noShared)("SentencePiece, with bytes for unknown characters", async () => {
  const own = await Llama2cTokenizer.fromFile(path.join(stories!, "tok512.bin"));
  const other = await through(tokenizerToGguf(own.toHuggingFace()));
  for (const text of [...texts, readFileSync(path.join(stories!, "EXPECTED_greedy.txt"), "utf8")]) {
    expect(other.encode(text), text).toEqual(own.encode(text));
    expect(other.decode(own.encode(text))).toBe(text);
  }
  expect([other.beginningOfText, other.endOfText, other.vocabularySize]).toEqual([1, 2, 512]);
});

test("kinds that GGUF files cannot express", () => {
  for (const json of [wordPieceJson(), unigramJson()])
    expectError(
      () => tokenizerToGguf(new HuggingFaceTokenizer(json)),
      "ERR_ARGUMENT",
      /byte-pair tokenizer that a GGUF file can describe/,
    );
  const cutOtherwise = { ...byteLevelJson(), pre_tokenizer: { type: "Whitespace" } };
  expectError(() => tokenizerToGguf(new HuggingFaceTokenizer(cutOtherwise)), "ERR_ARGUMENT", /another way/);
});
