import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { generate } from "../../lib/generate/generate-text.js";
import { GPT } from "../../lib/models/gpt.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { fromGenerationConfig, toGenerationConfig } from "../../lib/pretrained/generation-config.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { findModel } from "../../lib/pretrained/model-source.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { saveCheckpoint } from "../../lib/train/checkpoint.js";
import { describeUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { onEachDevice } from "../support/targets.js";

let folder = "";
beforeEach(() => {
  folder = temporaryFolder();
});
const put = (name: string, value: unknown = {}) =>
  writeFileSync(path.join(folder, name), typeof value === "string" ? value : JSON.stringify(value));

/** Saves a run's folder with a checkpoint of a model with 300 ids. */
async function saveRun(): Promise<string> {
  using model = new GPT(
    { vocabularySize: 300, contextLength: 16, layers: 1, heads: 2, width: 8 },
    { device: "cpu", seed: 3 },
  );
  using optimizer = new AdamW(model.namedParameters());
  const state = { step: 1, seconds: 0, seed: 0, dropoutSeed: 0, options: {} };
  return await saveCheckpoint(folder, { model, optimizer, tokenizer: new ByteTokenizer(), state });
}

describe("findModel", () => {
  test("recognises the format from the files", async () => {
    put("config.json");
    expect(await findModel(folder)).toEqual({ format: "folder", folder });
    put("a.gguf", "");
    expect(await findModel(path.join(folder, "a.gguf"))).toEqual({
      format: "gguf",
      file: path.join(folder, "a.gguf"),
    });
    const run = await saveRun();
    expect(await findModel(folder)).toEqual({ format: "folder", folder: run });
    expect(await findModel(run)).toEqual({ format: "folder", folder: run });
  });

  test("a folder that contains one model file", async () => {
    put("m.bin", "");
    const file = path.join(folder, "m.bin");
    expect(await findModel(folder)).toEqual({ format: "llama2c", file, tokenizer: null });
    put("tok512.bin", "");
    const tokenizer = path.join(folder, "tok512.bin");
    expect(await findModel(folder)).toEqual({ format: "llama2c", file, tokenizer });
    expect(await findModel(file)).toEqual({ format: "llama2c", file, tokenizer });
    put("tokenizer.bin", "");
    await expectRejection(findModel(folder), "ERR_FORMAT", /one tokenizer \(tok\*\.bin\), got tok512\.bin, tokenizer/);
    put("a.gguf", "");
    await expectRejection(findModel(folder), "ERR_FORMAT", /expected one model, got a\.gguf, m\.bin: name one/);
  });

  test("a folder of CTranslate2", async () => {
    for (const name of ["model.bin", "source_vocabulary.txt", "target_vocabulary.txt", "config.json"]) put(name, "");
    expect(await findModel(folder)).toEqual({ format: "ctranslate2", folder });
  });

  test("the error says what was searched for", async () => {
    await expectRejection(
      findModel(folder),
      "ERR_IO",
      /expected a run of heed .*, a \.gguf file, .* got a folder with none of these/,
    );
    await expectRejection(findModel(path.join(folder, "none")), "ERR_IO", /got no such file or folder/);
    put("notes.txt", "");
    await expectRejection(findModel(path.join(folder, "notes.txt")), "ERR_FORMAT", /got a file of another kind/);
    const offline = { offline: true, cacheDir: folder };
    await expectRejection(
      findModel("owner/name", offline),
      "ERR_IO",
      /offline, got none; there is no file or folder of this name either/,
    );
    await expectRejection(findModel(""), "ERR_ARGUMENT");
    await expectRejection(findModel(null!), "ERR_ARGUMENT");
  });
});

describe("loadModel", () => {
  test("a run's model, with its tokenizer", async () => {
    await saveRun();
    const { model, tokenizer, defaults } = await loadModel(folder, { device: "cpu" });
    expect(model).toBeInstanceOf(GPT);
    expect(model.training).toBe(false);
    expect(tokenizer).toBeInstanceOf(ByteTokenizer);
    expect(defaults).toEqual({});
    model.dispose();
  });

  test("a Hugging Face folder's, with its tokenizer and its generation defaults", async () => {
    const run = await saveRun();
    folder = temporaryFolder();
    for (const file of ["config.json", "model.safetensors"])
      writeFileSync(path.join(folder, file), readFileSync(path.join(run, file)));
    put("tokenizer.json", byteLevelJson());
    put("generation_config.json", { eos_token_id: [266, 5], temperature: 0.6, top_p: 0.9, top_k: null });
    const { model, tokenizer, defaults } = await loadModel(folder, { device: "cpu" });
    expect(tokenizer).toBeInstanceOf(HuggingFaceTokenizer);
    expect(defaults).toEqual({ stopTokens: [266, 5], temperature: 0.6, topP: 0.9 });
    model.dispose();
    put("config.json", {
      ...(JSON.parse(readFileSync(path.join(run, "config.json"), "utf8")) as object),
      vocab_size: 9,
    });
    await expectRejection(loadModel(folder), "ERR_FORMAT", /wte\.weight of shape \[9, 8\], got \[300, 8\]/);
  });

  test("refuses incomplete folders, and wrong options", async () => {
    await expectRejection(loadModel(folder), "ERR_IO", /got a folder with none of these/);
    await expectRejection(loadModel(folder, null!), "ERR_ARGUMENT", /options/);
    await expectRejection(loadModel(folder, { quantize: 5 as 4 }), "ERR_ARGUMENT", /expected bits to be 8 or 4, got 5/);
    mkdirSync(path.join(folder, "a.gguf"));
    await saveRun();
    await expectRejection(loadModel(folder, { device: "cpu:7" }), "ERR_DEVICE");
  });
});

const stories = sharedModel("stories260K");
describeUnless(!stories && noShared)("stories260K", () => {
  onEachDevice((device) => {
    test("by the name of its folder", { timeout: 300_000 }, async () => {
      const { model, tokenizer } = await loadModel(stories!, { device });
      expect(tokenizer).toBeInstanceOf(Llama2cTokenizer);
      const expected = readFileSync(path.join(stories!, "EXPECTED_greedy.txt"), "utf8");
      const tokens = tokenizer!.encode("Once upon a time");
      const text = (await generate(model, tokenizer, tokens, { maxTokens: 20, temperature: 0, echo: true })).text;
      expect(text.length).toBeGreaterThan(40);
      expect(expected.startsWith(text)).toBe(true);
      model.dispose();
    });
  });
});

describe("generation_config.json", () => {
  test("saved and loaded again", () => {
    const configs = [
      {},
      { eos_token_id: 2 },
      { eos_token_id: [2, 7], do_sample: true, temperature: 0.7, top_k: 40, top_p: 0.5, min_p: 0.1, typical_p: 0.9 },
      { do_sample: false, repetition_penalty: 1.1 },
    ];
    for (const config of configs) {
      const { temperature, ...rest } = fromGenerationConfig(config);
      expect(toGenerationConfig({ ...rest, ...(temperature !== undefined && { temperature }) })).toEqual(config);
    }
    expect(fromGenerationConfig({ do_sample: false, temperature: 0.9 })).toEqual({ temperature: 0 });
    expect(fromGenerationConfig({ eos_token_id: null, max_length: 20 })).toEqual({});
  });

  test("invalid values", () => {
    expectError(() => fromGenerationConfig([]), "ERR_FORMAT");
    expectError(() => fromGenerationConfig({ top_p: "1" }), "ERR_FORMAT", /top_p to be a number, got "1"/);
    expectError(() => fromGenerationConfig({ eos_token_id: -1 }), "ERR_FORMAT", /eos_token_id/);
    expectError(() => fromGenerationConfig({ eos_token_id: [1, "2"] }), "ERR_FORMAT", /eos_token_id/);
  });
});
