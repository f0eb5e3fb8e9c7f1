/** Tests how other programs read the tokenizers that heed writes. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { Tokenizer as Rust } from "@anush008/tokenizers";
import { describe, expect, test } from "vitest";
import { Llama } from "../../lib/models/llama.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { tokenizerToGguf } from "../../lib/pretrained/gguf/write-tokenizer.js";
import { saveLlama2c } from "../../lib/pretrained/families/save-llama2c.js";
import { Gpt2Tokenizer } from "../../lib/tokenizer/gpt2-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { llamaLogProbabilities, llamaVocabulary, noLlamaCpp } from "../support/llama-cpp.js";
import { describeUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";

/** A vocabulary of llama2.c: bytes, and "ab" made of "a" and "b". */
const names = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const tokens = ["<unk>", "\n<s>\n", "\n</s>\n", ...names, " ", "a", "b", "c", "ab", " ab"];
const spaced = Llama2cTokenizer.fromTokens(tokens.map((text, id) => [text, -id]));
const texts = ["ab abc", " ab", "", "é\u0085\ufeff x", "it's 12345  words\n\n", "Ā<s>"];

describe("Hugging Face's tokenizers read", () => {
  const cases: [string, () => Promise<Tokenizer>][] = [
    ["GPT-2's", () => Gpt2Tokenizer.load()],
    ["llama2.c's", () => Promise.resolve(spaced)],
  ];
  test.each(cases)("%s tokenizer.json", async (_, load) => {
    const own = await load();
    const rust = Rust.fromString(JSON.stringify(own.toHuggingFace!().toJSON().tokenizer));
    for (const text of texts.slice(0, -1)) {
      const ids = (await rust.encode(text)).getIds();
      expect([...own.encode(text)], text).toEqual(ids);
      expect(own.decode(ids)).toBe(await rust.decode(ids, true));
    }
  });
});

const size = { vocabularySize: 280, contextLength: 16, layers: 1, heads: 2, width: 32, feedForwardWidth: 32 };

describeUnless(noLlamaCpp)("llama.cpp", () => {
  test("loads a model with more rows than tokens, and its logits are the same", async () => {
    const file = path.join(temporaryFolder(), "a.gguf");
    using model = new Llama(size, { device: "cpu", seed: 1 });
    const own = new HuggingFaceTokenizer(byteLevelJson(), { config: { bos_token: "<|begin|>", eos_token: "<|end|>" } });
    expect(own.vocabularySize).toBeLessThan(280);
    await saveGguf(file, model, { tokenizer: own });
    const rows = await llamaLogProbabilities(file, [104, 105]);
    expect(rows.map((row) => row.length)).toEqual([280, 280]);
    const { tokens } = await llamaVocabulary(file, { texts });
    expect(tokens).toEqual(texts.map((text) => [...own.encode(text, { addSpecialTokens: false })]));
    const loaded = await loadGguf(file, { device: "cpu" });
    using other = loaded.model;
    expect(other.config.vocabularySize).toBe(280);
    expect(loaded.tokenizer!.vocabularySize).toBe(own.vocabularySize);
  });

  test("ends a text where the model's defaults do", async () => {
    const file = path.join(temporaryFolder(), "a.gguf");
    using model = new Llama(size, { device: "cpu", seed: 1 });
    const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" } });
    const defaults = {
      stopTokens: [266, 267],
      temperature: 0.7,
      topK: 40,
      topP: 0.9,
      minP: 0.05,
      repetitionPenalty: 1.1,
    };
    await saveGguf(file, model, { tokenizer, defaults });
    expect((await llamaVocabulary(file, { ends: [265, 266, 267, 268] })).ends).toEqual([false, true, true, false]);
    const loaded = await loadGguf(file, { device: "cpu" });
    loaded.model.dispose();
    expect(loaded.defaults).toEqual(defaults);
    const many = saveGguf(file, model, { tokenizer, defaults: { stopTokens: [1, 2, 3] } });
    await expectRejection(many, "ERR_ARGUMENT", /at most 3 tokens that end a text, .* got 266, 1, 2, 3/);
  });
});

describe("tokenizers that GGUF files cannot express are refused with a reason", () => {
  const json = byteLevelJson();
  const [begin] = json.added_tokens as [object];
  const split = { type: "Split", pattern: { Regex: "x" }, behavior: "Isolated", invert: false };
  test.each<[string, object, RegExp]>([
    ["ignore_merges", { model: { ...json.model, ignore_merges: true } }, /ignore_merges true/],
    ["a normalizer", { normalizer: { type: "Lowercase" } }, /the normalizer Lowercase/],
    [
      "digits",
      { pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Digits" }, json.pre_tokenizer] } },
      /Digits without/,
    ],
    ["a prefix", { pre_tokenizer: { ...json.pre_tokenizer, add_prefix_space: true } }, /add_prefix_space/],
    ["a split", { pre_tokenizer: { type: "Sequence", pretokenizers: [split, json.pre_tokenizer] } }, /another way/],
    ["lstrip", { added_tokens: [{ ...begin, lstrip: true }] }, /the token "<\|begin\|>" with lstrip/],
    ["single_word", { added_tokens: [{ ...begin, single_word: true }] }, /with single_word/],
  ])("%s", (_, part, message) => {
    const tokenizer = new HuggingFaceTokenizer({ ...json, post_processor: null, ...part });
    expectError(() => tokenizerToGguf(tokenizer), "ERR_ARGUMENT", message);
  });

  test("Metaspace's prefix, in GGUF and in llama2.c", async () => {
    const { tokenizer: given, config } = spaced.toHuggingFace().toJSON();
    for (const prepend_scheme of ["first", "always"]) {
      const pre_tokenizer = { type: "Metaspace", replacement: "\u2581", prepend_scheme, split: false };
      const tokenizer = new HuggingFaceTokenizer({ ...(given as object), normalizer: null, pre_tokenizer }, { config });
      const message = new RegExp(`Metaspace with prepend_scheme "${prepend_scheme}"`);
      expectError(() => tokenizerToGguf(tokenizer), "ERR_ARGUMENT", message);
      using model = new Llama(size, { device: "cpu", seed: 1 });
      const file = path.join(temporaryFolder(), "a.bin");
      await expectRejection(saveLlama2c(file, model, { tokenizer }), "ERR_ARGUMENT", message);
    }
  });
});

test("llama2.c's tokenizer has a token for every row, and is not added to a folder's own", async () => {
  const folder = temporaryFolder();
  const file = path.join(folder, "a.bin");
  using model = new Llama(size, { device: "cpu", seed: 1 });
  await saveLlama2c(file, model, { tokenizer: spaced.toHuggingFace() });
  const other = await Llama2cTokenizer.fromFile(path.join(folder, "tokenizer.bin"));
  expect(other.vocabularySize).toBe(280);
  for (const text of texts) expect(other.encode(text), text).toEqual(spaced.encode(text));
  writeFileSync(path.join(folder, "tok512.bin"), "");
  const again = saveLlama2c(file, model, { tokenizer: spaced });
  await expectRejection(again, "ERR_IO", /no tokenizer of another model .* got tok512\.bin/);
});

test("a configuration's add_bos_token and add_eos_token count if no post-processor adds a token", () => {
  const config = { bos_token: "<|begin|>", eos_token: "<|end|>", add_bos_token: true };
  const bare = { ...byteLevelJson(), post_processor: null };
  expect([...new HuggingFaceTokenizer(bare, { config }).encode("h")]).toEqual([265, 104]);
  const both = { ...config, add_eos_token: true };
  expect([...new HuggingFaceTokenizer(bare, { config: both }).encode("h")]).toEqual([265, 104, 266]);
  expect([...new HuggingFaceTokenizer(byteLevelJson(), { config: both }).encode("h")]).toEqual([265, 104]);
  expect([...new HuggingFaceTokenizer(bare).encode("h")]).toEqual([104]);
});
