/** Tests `load`, the one function that loads every model, and the methods of its results. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { randn } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { embedTexts } from "../../lib/embed/embed-texts.js";
import { DivergedError } from "../../lib/generate/diverged.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { translate } from "../../lib/generate/translate.js";
import { addTo } from "../../lib/inspect/index.js";
import { EmbeddingModel } from "../../lib/load/embedding-model.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { load } from "../../lib/load/load.js";
import { Translator } from "../../lib/load/translator.js";
import { Bert } from "../../lib/models/bert.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { saveLlama2c } from "../../lib/pretrained/families/save-llama2c.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { saveCheckpoint } from "../../lib/train/checkpoint.js";
import { smallGpt } from "../generate/models.js";
import { HubServer } from "../hub/server.js";
import { expectError, expectRejection } from "../support/errors.js";
import { sharedFolder, temporaryFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { oneDevice, testUnless } from "../support/skip.js";
import { splitGguf } from "../support/split-gguf.js";
import { onEachDevice } from "../support/targets.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";
import { byteLevelJson, unigramJson, wordPieceJson, wordPieces } from "../tokenizer/fixtures.js";

const folder = sharedFolder();
const at = (...names: string[]): string => path.join(folder, ...names);
const template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}{{ tools or '' }}";
const chatty = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate: template });
const bytePieces = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const llamas = Llama2cTokenizer.fromTokens(
  ["<unk>", "\n<s>\n", "\n</s>\n", ...bytePieces, " ", "a"].map((text, id) => [text, -id]),
);
const stop = 7;
const defaults = { stopTokens: [stop, 266], temperature: 0 };

beforeAll(async () => {
  using gpt = smallGpt("cpu", { vocabularySize: 272, contextLength: 192 });
  await savePretrained(at("gpt"), gpt, { tokenizer: chatty, defaults });
  await savePretrained(at("bare"), gpt);
  using optimizer = new AdamW(gpt.namedParameters());
  const state = { step: 1, seconds: 0, seed: 0, dropoutSeed: 0, options: {} };
  await saveCheckpoint(at("run"), { model: gpt, optimizer, tokenizer: chatty, state });
  const sizes = { vocabularySize: 272, contextLength: 32, layers: 2, heads: 2, width: 32 };
  using llama = new Llama({ ...sizes, feedForwardWidth: 32 }, { device: "cpu", seed: 4 });
  await saveGguf(at("model.gguf"), llama, { tokenizer: llamas, defaults: { temperature: 0 } });
  await splitGguf(at("model.gguf"), at("parts"), 3);
  await saveLlama2c(at("model.bin"), llama, { tokenizer: llamas });
  const small = { contextLength: 12, layers: 1, heads: 2, width: 8, feedForwardWidth: 12 };
  using bert = new Bert({ ...small, vocabularySize: wordPieces.length }, { device: "cpu", seed: 5 });
  const words = new HuggingFaceTokenizer(wordPieceJson());
  await savePretrained(at("bert"), bert, { tokenizer: words });
  const step = (type: string, folder: string) => ({ type: `sentence_transformers.models.${type}`, path: folder });
  const put = (name: string, json: unknown) => writeFileSync(at("bert", name), JSON.stringify(json));
  put("modules.json", [step("Transformer", ""), step("Pooling", "pooling"), step("Normalize", "normalize")]);
  mkdirSync(at("bert", "pooling"));
  put("pooling/config.json", { pooling_mode_cls_token: true });
  put("sentence_bert_config.json", { max_seq_length: 5 });
  using t5 = new T5({ ...small, vocabularySize: 16, endToken: 2 }, { device: "cpu", seed: 3 });
  await savePretrained(at("t5"), t5, { tokenizer: new HuggingFaceTokenizer(unigramJson()) });
  mkdirSync(at("ct2"));
  writeTinyTranslator(at("ct2"));
});

describe("loads every source, and reports its kind", () => {
  test.each<[string, () => string, string, new (parts: never) => unknown]>([
    ["a folder in Hugging Face's format", () => at("gpt"), "causal", LanguageModel],
    ["a run", () => at("run"), "causal", LanguageModel],
    ["a checkpoint of a run", () => at("run", "step-00000001"), "causal", LanguageModel],
    ["a GGUF file", () => at("model.gguf"), "causal", LanguageModel],
    ["a GGUF file in parts, by the first", () => at("parts-00001-of-00003.gguf"), "causal", LanguageModel],
    ["a GGUF file in parts, by another", () => at("parts-00003-of-00003.gguf"), "causal", LanguageModel],
    ["a file of llama2.c", () => at("model.bin"), "causal", LanguageModel],
    ["an encoder", () => at("bert"), "encoder", EmbeddingModel],
    ["an encoder–decoder", () => at("t5"), "encoder-decoder", Translator],
    ["CTranslate2", () => at("ct2"), "encoder-decoder", Translator],
  ])("%s", async (_, source, kind, constructor) => {
    const { live, tensors } = deviceOf("cpu").memory();
    {
      using model = await load(source(), { device: "cpu" });
      expect(model.kind).toBe(kind);
      expect(model).toBeInstanceOf(constructor);
      expect(model.model.training).toBe(false);
    }
    expect(deviceOf("cpu").memory()).toMatchObject({ live, tensors });
    const other = kind === "encoder" ? "causal" : "encoder";
    await expectRejection(
      load(source(), { device: "cpu", kind: other }),
      "ERR_ARGUMENT",
      new RegExp(`^load: expected .+ to be a model of kind "${other}", got one of kind "${kind}"$`),
    );
    expect(deviceOf("cpu").memory()).toMatchObject({ live, tensors });
  });

  test("a GGUF file in parts is the model of one file", async () => {
    const said = async (source: string): Promise<string> => {
      using model = await load(source, { kind: "causal", device: "cpu" });
      return (await model.generate("a a", { maxTokens: 12 })).text;
    };
    expect(await said(at("parts-00002-of-00003.gguf"))).toBe(await said(at("model.gguf")));
    const alone = temporaryFolder();
    await splitGguf(at("model.gguf"), path.join(alone, "m"), 2);
    expect(await said(alone)).toBe(await said(at("model.gguf")));
  });

  test("parts that do not fit", async () => {
    const alone = temporaryFolder();
    const [first, second] = (await splitGguf(at("model.gguf"), path.join(alone, "m"), 2)) as [string, string];
    const refused = (message: RegExp, source = first, code: "ERR_FORMAT" | "ERR_IO" = "ERR_FORMAT") =>
      expectRejection(load(source, { device: "cpu" }), code, message);
    const good = readFileSync(second);
    writeFileSync(second, readFileSync(first));
    await refused(/m-00002-of-00002\.gguf: expected split\.no to be 1, got 0$/);
    const spoilt = Buffer.from(good);
    spoilt.writeUInt16LE(3, spoilt.indexOf("split.count") + "split.count".length + 4);
    writeFileSync(second, spoilt);
    await refused(/expected split\.count to be 2, got 3$/);
    rmSync(second);
    await refused(/m-00002-of-00002\.gguf: ENOENT/, first, "ERR_IO");
    const renamed = path.join(alone, "renamed.gguf");
    renameSync(first, renamed);
    await refused(
      /expected a whole model, got one of 2 parts; parts need names like name-00001-of-0000N\.gguf/,
      renamed,
    );
  });

  test("a GGUF file of a model of the hub, with its other parts and nothing else", async () => {
    const content = (name: string) => ({ content: readFileSync(at(name)), large: true });
    await using hub = await HubServer.start({
      "README.md": { content: Buffer.from("not wanted") },
      "config.json": { content: Buffer.from("{}") },
      "whole/model.gguf": content("model.gguf"),
      ...Object.fromEntries(
        [1, 2, 3].map((i) => [`q/parts-0000${i}-of-00003.gguf`, content(`parts-0000${i}-of-00003.gguf`)]),
      ),
    });
    const options = { hubUrl: hub.url, cacheDir: temporaryFolder(), device: "cpu" };
    const online = { ...options, offline: false };
    using whole = await load("hf:owner/tiny/whole/model.gguf", { ...online, kind: "causal" });
    using parts = await load("hf:owner/tiny/q/parts-00001-of-00003.gguf", { ...online, kind: "causal" });
    const files = new Set(hub.downloads.map((request) => request.split(" ")[1]!.split("/").slice(5).join("/")));
    expect([...files].sort()).toEqual([...[1, 2, 3].map((i) => `q/parts-0000${i}-of-00003.gguf`), "whole/model.gguf"]);
    const say = async (model: LanguageModel) => (await model.generate("a", { maxTokens: 5 })).tokens;
    expect(await say(parts)).toEqual(await say(whole));
    using again = await load("hf:owner/tiny/whole/model.gguf", { ...options, offline: true, kind: "causal" });
    expect(await say(again)).toEqual(await say(whole));
    await expectRejection(load("hf:owner/tiny/none.gguf", online), "ERR_IO", /owner\/tiny: expected files of a model/);
    for (const name of ["hf:tiny", "hf:owner/tiny/model.bin", "hf:"])
      await expectRejection(
        load(name, online),
        "ERR_ARGUMENT",
        /expected hf:owner\/name or hf:owner\/name\/file\.gguf/,
      );
  });
});

describe("bad input", () => {
  test.each<[string, object, RegExp]>([
    ["", {}, /model: expected a run of heed .+, got ""/],
    ["x", { kind: "masked" }, /load: expected kind to be causal, encoder, classifier or encoder-decoder, got "masked"/],
    ["x", { tokenizer: {} }, /load: expected tokenizer to be a tokenizer, got an object/],
    ["x", { quantize: 5 }, /expected bits to be 8 or 4, got 5/],
  ])("%j, %j", async (source, options, message) => {
    await expectRejection(load(source, options), "ERR_ARGUMENT", message);
  });

  test("options, folders and models", async () => {
    await expectRejection(load("x", null!), "ERR_ARGUMENT", /load: expected options/);
    await expectRejection(load(at("none")), "ERR_IO", /got no such file or folder/);
    await expectRejection(load(temporaryFolder()), "ERR_IO", /got a folder with none of these/);
    const strange = temporaryFolder();
    writeFileSync(path.join(strange, "config.json"), '{"model_type": "mamba"}');
    await expectRejection(load(strange), "ERR_FORMAT", /config\.json: expected "model_type" .+, got "mamba"/);
    const { live } = deviceOf("cpu").memory();
    const large = new CharTokenizer(Array.from({ length: 300 }, (_, i) => String.fromCharCode(0x4e00 + i)).join(""));
    await expectRejection(
      load(at("gpt"), { tokenizer: large, device: "cpu" }),
      "ERR_ARGUMENT",
      /expected a tokenizer with at most 272 tokens, as many as the model has, got 300/,
    );
    expect(deviceOf("cpu").memory().live).toBe(live);
  });

  test("a signal that has aborted", async () => {
    await expect(load("owner/name", { signal: AbortSignal.abort("no longer") })).rejects.toBe("no longer");
  });
});

onEachDevice((device) => {
  describe("a language model", () => {
    test("generates by its own defaults, which options override", async () => {
      const { live, tensors } = deviceOf(device).memory();
      {
        using model = await load(at("gpt"), { kind: "causal", device });
        expect(model.defaults).toEqual(defaults);
        const prompt = model.tokenizer.encode("hello");
        const ask = async (options: object) =>
          (await generateTokens(model.model, [prompt], { maxTokens: 20, temperature: 0, ...options }))[0]!;
        const own = await ask({ stopTokens: defaults.stopTokens });
        const result = await model.generate("hello", { maxTokens: 20 });
        const text = { text: model.tokenizer.decode(own.tokens), ...own };
        expect(result).toEqual({
          ...text,
          choices: [text],
          usage: { promptTokens: prompt.length, cachedTokens: 0, completionTokens: own.tokens.length },
        });
        expect(await model.generate(prompt, { maxTokens: 20, temperature: undefined! })).toEqual(result);
        // Its first token becomes the stop token.
        const [first] = (await ask({ stopTokens: [] })).tokens;
        const ended = await model.generate("hello", { maxTokens: 20, stopTokens: [first!] });
        expect(ended).toMatchObject({ text: "", tokens: [], finishReason: "stop", usage: { completionTokens: 0 } });
        const sampled = await model.generate("hello", { maxTokens: 20, temperature: 5, seed: 1, stopTokens: [] });
        expect(sampled).toMatchObject({ finishReason: "length", usage: { completionTokens: 20 } });
        expect(sampled.text).not.toBe(result.text);
      }
      expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
    });

    test("streams, and a loop that is left or aborted frees everything", async () => {
      using model = await load(at("gpt"), { kind: "causal", device });
      const options = { maxTokens: 40, temperature: 1, seed: 3, stopTokens: [] };
      // The first text makes the memory for keys and values, which the model keeps for later ones.
      await model.generate("hello", options);
      const { live, tensors } = deviceOf(device).memory();
      let [text, tokens] = ["", 0];
      const generation = model.generate("hello", options);
      expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
      for await (const event of generation) {
        text += event.text;
        tokens += event.tokens.length;
      }
      expect(await generation).toMatchObject({ text, finishReason: "length", usage: { completionTokens: tokens } });
      expect(tokens).toBe(40);
      for await (const _ of model.generate("hello", options)) break;
      expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
      const control = new AbortController();
      const reason = new Error("enough");
      const aborted = model.generate("hello", {
        ...{ ...options, signal: control.signal },
        onToken: () => control.abort(reason),
      });
      await expect(aborted).rejects.toBe(reason);
      expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
      const long = "hello ".repeat(120);
      await expect(model.generate(long)).rejects.toMatchObject({ code: "ERR_RANGE" });
      expect((await model.generate(long, { maxTokens: 2, overflow: "slide" })).usage.promptTokens).toBeGreaterThan(64);
    });

    test("chats by the model's template", async () => {
      using model = await load(at("gpt"), { kind: "causal", device });
      const messages = [{ role: "user", content: "hello" }];
      const prompt = chatty.encodeChat(messages);
      const expected = await model.generate(prompt, { maxTokens: 8 });
      expect(await model.chat(messages, { maxTokens: 8 })).toEqual(expected);
      const told = await model.chat(messages, { maxTokens: 8, overflow: "slide", tools: [{ name: "look_up" }] });
      expect(told.usage.promptTokens).toBeGreaterThan(expected.usage.promptTokens);
      await expect(model.chat([])).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
      using plain = await load(at("model.bin"), { kind: "causal", device });
      expectError(() => plain.chat(messages), "ERR_ARGUMENT", /chat: expected a model with a chat template/);
    });

    // The software device is slow, and hooks in generation have tests on every device.
    testUnless(device !== "cpu" && oneDevice)("chats with hooks, outside of the shared batch", async () => {
      using model = await load(at("gpt"), { kind: "causal", device });
      const messages = [{ role: "user", content: "hello" }];
      let passes = 0;
      const reads = {
        "blocks.0.hook_mlp_out": () => {
          passes++;
          return undefined;
        },
      };
      const options = { maxTokens: 4, tools: [{ name: "look_up" }], overflow: "slide" } as const;
      const answer = await model.chat(messages, options);
      expect(await model.chat(messages, { ...options, hooks: reads })).toEqual(answer);
      expect(passes).toBe(4);
      using vector = randn([32], { seed: 4, device, std: 3 });
      const hooks = { "blocks.0.hook_mlp_out": addTo(vector) };
      const steered = await model.chat(messages, { maxTokens: 4, hooks });
      expect(steered.tokens).not.toEqual((await model.chat(messages, { maxTokens: 4 })).tokens);
      expect(steered).toEqual(await model.generate(chatty.encodeChat(messages), { maxTokens: 4, hooks }));
      expectError(() => model.chat(messages, { hooks, adapter: "a" }), "ERR_ARGUMENT", /chat: .*adapter.*hooks/);
      expectError(() => model.generate("a", { hooks, speculation: false }), "ERR_ARGUMENT", /speculation/);
      expectError(() => model.chat(messages, { hooks: { hook_x: addTo(1) } as never }), "ERR_ARGUMENT", /hook_embed/);
    });
  });

  test("an encoder makes vectors by its own settings", async () => {
    using model = await load(at("bert"), { kind: "encoder", device });
    const recipe = { pooling: "cls", normalize: true, maxLength: 5, lowercase: false } as const;
    expect(model.recipe).toEqual(recipe);
    const texts = ["unaffable cafe.", "aff"];
    const vectors = await model.embed(texts);
    expect(vectors).toEqual(await embedTexts(model.model, model.tokenizer, texts, recipe));
    expect(await model.embed(texts, { pooling: "mean" })).not.toEqual(vectors);
    expect(await model.embed(texts, { batchSize: undefined! })).toEqual(vectors);
    await expectRejection(model.embed("aff" as never), "ERR_ARGUMENT", /expected texts/);
  });

  test.each(["t5", "ct2"])("an encoder–decoder translates: %s", async (name) => {
    using model = await load(at(name), { kind: "encoder-decoder", device });
    const texts = name === "t5" ? ["ab a", "", "b"] : ["abc", "", "fe"];
    const options = { beams: 2, maxTokens: 5 };
    const sources = [await model.encode(texts[0]!), await model.encode(texts[2]!)];
    const found = await translate(model.model, sources, options);
    const [first, last] = found.map(([best]) => model.decode(best!.tokens));
    expect(await model.translate(texts, options)).toEqual([first, "", last]);
    expect(await model.translate(texts[0]!, options)).toBe(first);
    expect(await model.translate("", options)).toBe("");
    const [best] = await model.translations(texts, { ...options, nBest: 2 });
    expect(best!.map(({ score }) => score)).toEqual([best![0]!.score, best![1]!.score].sort((a, b) => b - a));
    expect(best![0]).toMatchObject({ text: first });
    await expectRejection(model.translate([5] as never), "ERR_ARGUMENT", /texts\[0\] to be a string, got 5/);
    await expectRejection(
      model.translate(["a".repeat(600)]),
      "ERR_RANGE",
      /expected texts\[0\] to have 0 to \d+ tokens/,
    );
  });
});

test("a translator that diverges names the texts", async () => {
  const spoilt = temporaryFolder();
  writeTinyTranslator(spoilt, { spoilt: "e" });
  using model = await load(spoilt, { kind: "encoder-decoder", device: "cpu" });
  const error: unknown = await model.translate(["", "bed", "abc"], { maxTokens: 4 }).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(DivergedError);
  expect((error as Error).message).toMatch(/after texts\[1\]/);
  expect((error as DivergedError).results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

describe("without a tokenizer", () => {
  test("token prompts work, and the error for texts says what is missing", async () => {
    using model = await load(at("bare"), { kind: "causal", device: "cpu" });
    const result = await model.generate(Int32Array.of(1, 2), { maxTokens: 3, temperature: 0 });
    expect(result).toMatchObject({ text: "", finishReason: "length", usage: { promptTokens: 2, completionTokens: 3 } });
    for (const body of [
      () => model.tokenizer,
      () => model.generate("a"),
      () => model.chat([{ role: "user", content: "a" }]),
    ])
      expectError(
        body,
        "ERR_ARGUMENT",
        /expected a model with a tokenizer, got one without; pass a tokenizer in the options/,
      );
  });

  test("one may be given, and replaces the source's", async () => {
    using model = await load(at("bare"), { kind: "causal", device: "cpu", tokenizer: chatty });
    expect(model.tokenizer).toBe(chatty);
    using other = await load(at("gpt"), { kind: "causal", device: "cpu", tokenizer: llamas });
    expect(other.tokenizer).toBe(llamas);
    const options = { maxTokens: 5, temperature: 0, stopTokens: [266] };
    using own = await load(at("gpt"), { kind: "causal", device: "cpu" });
    expect(await model.generate("hello", options)).toEqual(await own.generate("hello", options));
  });

  test("one may be given for a GGUF file whose own cannot be read", async () => {
    const file = path.join(temporaryFolder(), "strange.gguf");
    const bytes = readFileSync(at("model.gguf"));
    // The type of the value (4 bytes) and the value's length (8 bytes) follow the key.
    bytes.write("xxxxx", bytes.indexOf("tokenizer.ggml.model") + "tokenizer.ggml.model".length + 12);
    writeFileSync(file, bytes);
    await expectRejection(load(file), "ERR_FORMAT", /tokenizer\.ggml\.model.+"xxxxx"/);
    using model = await load(file, { kind: "causal", device: "cpu", tokenizer: llamas });
    expect(model.tokenizer).toBe(llamas);
  });

  test("for an encoder and a translator", async () => {
    const copy = temporaryFolder();
    for (const [name, use] of [
      ["bert", async () => load(copy, { kind: "encoder", device: "cpu" }).then((model) => model.embed(["a"]))],
      ["t5", async () => load(copy, { kind: "encoder-decoder", device: "cpu" }).then((model) => model.translate("a"))],
    ] as const) {
      for (const file of ["config.json", "model.safetensors"])
        writeFileSync(path.join(copy, file), readFileSync(at(name, file)));
      await expectRejection(use(), "ERR_ARGUMENT", /expected a model with a tokenizer/);
    }
  });
});

test("methods of other kinds throw", async () => {
  using model = await load(at("bert"), { device: "cpu" });
  // Only the source determines the kind, so all methods are there.
  expectError(
    () => model.generate("a"),
    "ERR_ARGUMENT",
    /generate: expected a model of kind "causal", got one of kind "enc/,
  );
  expectError(() => model.chat([]), "ERR_ARGUMENT", /"causal"/);
  expectError(() => model.translate("a"), "ERR_ARGUMENT", /"encoder-decoder"/);
  if (model.kind === "encoder") expect(await model.embed(["aff"])).toHaveLength(1);
  using gpt = await load(at("gpt"), { device: "cpu" });
  expectError(
    () => gpt.embed(["a"]),
    "ERR_ARGUMENT",
    /embed: expected a model of kind "encoder", got one of kind "causal/,
  );
});

test("a model of the program's own", async () => {
  using gpt = new GPT(
    { vocabularySize: 272, contextLength: 16, layers: 1, heads: 1, width: 8 },
    { device: "cpu", seed: 1 },
  );
  const model = new LanguageModel({ model: gpt, tokenizer: chatty, defaults: { temperature: 0 } });
  expect((await model.generate("hello", { maxTokens: 3 })).usage.promptTokens).toBe(2);
});

test("weights in 8 bits", async () => {
  using model = await load(at("gpt"), { kind: "causal", device: "cpu", quantize: 8 });
  expect([...model.model.namedParameters()].length).toBeLessThan(20);
  expect((await model.generate("hello", { maxTokens: 3, stopTokens: [] })).tokens).toHaveLength(3);
});

const stories = sharedModel("stories260K");
const published = sharedModel("ar-en-transliteration");
onEachDevice((device) => {
  testUnless(!stories && noShared)("stories260K generates its story", { timeout: 300_000 }, async () => {
    using model = await load(stories!, { kind: "causal", device });
    const expected = readFileSync(path.join(stories!, "EXPECTED_greedy.txt"), "utf8");
    const { text } = await model.generate("Once upon a time", { maxTokens: 20, temperature: 0, echo: true });
    expect(text.length).toBeGreaterThan(40);
    expect(expected.startsWith(text)).toBe(true);
  });

  testUnless(!published && noShared)(
    "ar-en-transliteration writes names in Latin letters",
    { timeout: 60_000 },
    async () => {
      using model = await load(published!, { kind: "encoder-decoder", device });
      expect(await model.translate(["آتزمون", "آزا"], { maxTokens: 12 })).toEqual(["atzmon", "azza"]);
    },
  );
});
