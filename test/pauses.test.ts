/**
 * No work on a large model or a long text may hold up the event loop. The sizes are chosen so that every pause that
 * heed once had is well above the limit; the nightly run uses a model of 1 GB and a text of 10 MB.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readData } from "../lib/cli/run-data.js";
import { defaults } from "../lib/cli/train-flags.js";
import { device } from "../lib/core/device.js";
import { generate } from "../lib/generate/generate-text.js";
import type { CausalDecoder } from "../lib/models/causal-decoder.js";
import { GPT } from "../lib/models/gpt.js";
import { Llama } from "../lib/models/llama.js";
import type { Module } from "../lib/nn/module.js";
import { matmul } from "../lib/ops/matmul.js";
import type { GgufValue } from "../lib/formats/gguf-values.js";
import { rotaryTable } from "../lib/ops/rotary-table.js";
import { GgufMetadata } from "../lib/pretrained/gguf/metadata.js";
import { tokenizerOfGguf } from "../lib/pretrained/gguf/tokenizer.js";
import { saveGguf } from "../lib/pretrained/gguf/save-gguf.js";
import { loadCTranslate2 } from "../lib/pretrained/families/load-ctranslate2.js";
import { loadModel, type LoadModelOptions } from "../lib/pretrained/load-model.js";
import { saveLlama2c } from "../lib/pretrained/families/save-llama2c.js";
import { savePretrained } from "../lib/pretrained/save-pretrained.js";
import { ones } from "../lib/core/creation.js";
import { setPieces } from "../lib/core/tensor-pieces.js";
import { tokenizerFromFile } from "../lib/tokenizer/from-json.js";
import { HuggingFaceTokenizer } from "../lib/tokenizer/huggingface-tokenizer.js";
import { byteLevel } from "../lib/tokenizer/token-decoder.js";
import { ByteTokenizer } from "../lib/tokenizer/byte-tokenizer.js";
import { loadCheckpoint } from "../lib/train/checkpoint.js";
import { tokenData } from "../lib/data/token-data.js";
import { Trainer } from "../lib/train/trainer.js";
import { inPieces } from "../lib/util/turns.js";
import { nightly } from "./support/nightly.js";
import { modelFile, variable } from "./support/ctranslate2.js";
import { sharedFolder } from "./support/folder.js";
import { expectNoPause, pausesOf } from "./support/pauses.js";
import { nightlyOnly, testUnless } from "./support/skip.js";

const timeout = nightly ? 20 * 60_000 : 60_000;
const folder = sharedFolder();
const at = (name: string): string => path.join(folder, name);

// 0.1 GB of f32, or 1.2 GB in the nightly run; embeddings are the largest tensors.
const size = nightly
  ? { vocabularySize: 50_257, width: 1536, layers: 8, heads: 16, contextLength: 64 }
  : { vocabularySize: 49_152, width: 512, layers: 1, heads: 8, contextLength: 32 };
/** The scales of Q4_0 are searched for, which takes a microsecond for each number. So 6 million numbers are enough. */
const sizeOfQ4 = nightly ? size : { ...size, vocabularySize: 6144 };
/** The shape of a GPT-2 with 124 million parameters. */
const gpt2Shape = { vocabularySize: 50_257, width: 768, layers: 12, heads: 12, contextLength: 1024 };
const makeGpt = (config = size): GPT => new GPT(config, { seed: 1, device: "cpu" });
const makeLlama = (): Llama =>
  new Llama({ ...size, kvHeads: size.heads, feedForwardWidth: 2 * size.width }, { seed: 1, device: "cpu" });

async function withModel<M extends Module & { device: GPT["device"] }>(model: M, body: (model: M) => Promise<void>) {
  await model.device.synchronize();
  try {
    await body(model);
  } finally {
    model.dispose();
  }
}

test("the measure sees a thread that is held up", async () => {
  const busy = await pausesOf(async () => {
    const end = performance.now() + 400;
    while (performance.now() < end);
    return Promise.resolve();
  });
  // This is meaningful only if the machine had a core free.
  expect(busy.busy).toBeGreaterThan(10);
  const asleep = await pausesOf(async () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
    return Promise.resolve();
  });
  expect(asleep.asleep).toBeGreaterThan(300);
});

describe("models", { timeout }, () => {
  const loads = (name: string, options: LoadModelOptions = {}): Promise<void> =>
    expectNoPause(async () => {
      const { model } = await loadModel(at(name), { device: "cpu", ...options });
      await model.device.synchronize();
      model.dispose();
    });

  test.each(["f32", "bf16", "f16"] as const)("saved and loaded as safetensors of %s", async (dtype) => {
    await withModel(makeGpt(), (gpt) =>
      expectNoPause(() => savePretrained(at(dtype), gpt, { dtype, overwrite: true, shardBytes: 6e7 })),
    );
    await loads(dtype);
    await loads(dtype, { dtype: "bf16", quantize: 4 });
  });

  test.each(["F32", "F16", "Q8_0", "Q4_0"] as const)("saved and loaded as GGUF of %s", async (type) => {
    const file = `${type}.gguf`;
    const model = type === "F16" ? makeLlama() : makeGpt(type === "Q4_0" ? sizeOfQ4 : size);
    await withModel<CausalDecoder>(model, (model) => expectNoPause(() => saveGguf(at(file), model, { type })));
    await loads(file);
  });

  test("saved and loaded as llama2.c's", async () => {
    await withModel(makeLlama(), (llama) => expectNoPause(() => saveLlama2c(at("llama.bin"), llama)));
    await loads("llama.bin");
  });

  test("loaded from CTranslate2's files", async () => {
    writeTranslator(folder);
    await expectNoPause(async () => {
      const { model } = await loadCTranslate2(folder, { device: "cpu" });
      await model.device.synchronize();
      model.dispose();
    });
  });

  test("filled behind long work", async () => {
    const values = new Float32Array(2 ** 24);
    using a = ones([1024, 1024], { device: "cpu" });
    await expectNoPause(async () => {
      for (let i = 0; i < 20; i++) matmul(a, a).dispose();
      using x = ones([4 * values.length], { device: "cpu" });
      const pieces = async function* () {
        for (let i = 0; i < 4; i++) yield* inPieces(values);
      };
      await setPieces(x, pieces());
      expect(device("cpu").memory().uploading).toBeLessThanOrEqual(8 * 2 ** 20);
      using last = x.viewAs([1], [1], x.size - 1);
      expect(await last.item()).toBe(0);
    });
  });
});

describe("texts", { timeout }, () => {
  const line = (i: number): string =>
    `${i} It’s the ${i % 97}th line, naïve or not; and ${(i * i) % 1009} more follow.\n`;
  const text = Array.from({ length: nightly ? 160_000 : 48_000 }, (_, i) => line(i)).join("");

  test.each(["char", "byte", "gpt2"] as const)("tokens of kind %s for training", async (tokenizer) => {
    const data = at("text.txt");
    writeFileSync(data, text);
    await expectNoPause(async () => {
      const { train, validation } = await readData({ ...defaults, tokenizer, data }, null);
      expect(train).toHaveProperty(
        "length",
        expect.toSatisfy((length: number) => length > text.length / 10),
      );
      expect(validation).toHaveProperty(
        "length",
        expect.toSatisfy((length: number) => length > text.length / 100),
      );
    });
  });
});

describe("tokenizers", { timeout }, () => {
  const count = nightly ? 150_000 : 50_000;
  const text = Array.from(
    { length: nightly ? 150_000 : 6000 },
    (_, i) => `${i} ein Wort, d’autres mots и слова ${i * i}\n`,
  );
  const texts = text.join("");
  const written = (name: string, json: object): string => {
    const own = at(name);
    mkdirSync(own, { recursive: true });
    writeFileSync(path.join(own, "tokenizer.json"), JSON.stringify(json));
    return own;
  };

  test.each([
    ["byte-level BPE", largeByteLevel],
    ["SentencePiece's BPE, whose pieces are whole texts", largeSpaced],
    ["Unigram", largeUnigram],
  ])("%s, loaded and used", async (_, make) => {
    const own = written("tokenizer", make(count));
    let tokenizer: HuggingFaceTokenizer;
    await expectNoPause(async () => {
      tokenizer = await HuggingFaceTokenizer.fromFolder(own);
    });
    expect(tokenizer!.vocabularySize).toBeGreaterThan(count);
    await expectNoPause(async () => {
      expect((await tokenizer.encodeAsync(texts)).length).toBeGreaterThan(texts.length / 10);
    });
    await expectNoPause(async () => {
      await savePretrained(at("with-tokenizer"), tiny(), { tokenizer, overwrite: true });
    });
  });

  test("a text that consists of one word", async () => {
    const tokenizer = new HuggingFaceTokenizer(largeSpaced(1000));
    const long = "ab".repeat(nightly ? 2_000_000 : 150_000);
    await expectNoPause(() => tokenizer.encodeAsync(long));
  });

  test("from a GGUF file", async () => {
    const tokens = Array.from({ length: count }, (_, i) => `▁${word(i)}`);
    const bytes = Array.from({ length: 256 }, (_, byte) => byteName(byte));
    const all = ["<unk>", ...bytes, "▁", ...Array.from("abcdefghijklmnopqrstuvwxyz"), ...tokens];
    const types = all.map((_, id) => (id === 0 ? 2 : id <= 256 ? 6 : 1));
    const metadata = new GgufMetadata(
      "a.gguf",
      new Map<string, GgufValue>([
        ["general.architecture", "llama"],
        ["tokenizer.ggml.model", "llama"],
        ["tokenizer.ggml.tokens", all],
        ["tokenizer.ggml.token_type", types],
        ["tokenizer.ggml.scores", all.map((_, id) => -((id * 7919) % 10_007))],
      ]),
    );
    await expectNoPause(() => tokenizerOfGguf(metadata));
  });

  test("from llama2.c", async () => {
    const bytes = Array.from({ length: 256 }, (_, byte): [string, number] => [byteName(byte), 0]);
    const tokens = Array.from({ length: count }, (_, i): [string, number] => [` ${word(i)}`, -i]);
    const list = [["<unk>", 0], ["<s>", 0], ["</s>", 0], ...bytes, ...tokens];
    writeFileSync(at("llama2c.json"), JSON.stringify({ type: "llama2c", tokens: list }));
    await expectNoPause(() => tokenizerFromFile(at("llama2c.json")));
  });

  test("20,000 added tokens, many with the same beginning", async () => {
    const added = Array.from({ length: 20_000 }, (_, i) => {
      return { id: 100_000 + i, content: `<${"x".repeat(i % 200)}${i}>`, special: false, normalized: false };
    });
    const tokenizer = new HuggingFaceTokenizer({ ...largeByteLevel(100), added_tokens: added });
    await expectNoPause(() => tokenizer.encodeAsync("<xxx<xxxx<x<".repeat(30_000)));
  });

  test("a word of a million characters that have several bytes each", async () => {
    const tokenizer = new HuggingFaceTokenizer(largeByteLevel(100));
    await expectNoPause(() => tokenizer.encodeAsync("€".repeat(1e6)));
  });
});

describe("training and generating", { timeout }, () => {
  const small = nightly ? { ...size, width: 768, layers: 4 } : { ...size, vocabularySize: 24_576 };
  const ids = Int32Array.from({ length: 4000 }, (_, i) => (i * i) % 251);
  const options = {
    data: tokenData(ids),
    batchSize: 1,
    contextLength: 16,
    checkpoint: { folder: at("run"), every: 2 },
  };

  test("training, its checkpoints, and resuming from one", async () => {
    await expectNoPause(async () => {
      using model = new GPT(small, { seed: 1, device: "cpu" });
      using trainer = new Trainer({ ...options, model, steps: 2, checkpoint: { ...options.checkpoint } });
      await trainer.train();
    });
    await expectNoPause(async () => {
      const checkpoint = await loadCheckpoint(at("run"), { device: "cpu" });
      using model = checkpoint.model;
      using trainer = new Trainer({ ...options, model, steps: checkpoint.state.step + 1, resume: checkpoint });
      await trainer.train();
    });
  });

  test("a table of rotary positions", async () => {
    const length = nightly ? 65_536 : 32_768;
    await expectNoPause(async () => {
      rotaryTable({ size: 64, length, device: "cpu" }).dispose();
      return Promise.resolve();
    });
  });

  testUnless(!nightly && nightlyOnly)("training GPT-2 124M", async () => {
    using model = new GPT(gpt2Shape, { seed: 1, device: "cpu" });
    await model.device.synchronize();
    const longest = await pausesOf(async () => {
      using trainer = new Trainer({ data: tokenData(ids), batchSize: 1, contextLength: 256, model, steps: 3 });
      await trainer.train();
    });
    console.info(`training GPT-2 124M: the longest pause is ${JSON.stringify(longest)} ms`);
    expect(longest.busy).toBeLessThan(50);
  });

  test("generating", async () => {
    using model = new GPT(small, { seed: 1, device: "cpu" });
    model.eval();
    await expectNoPause(() => generate(model, new ByteTokenizer(), "Once", { maxTokens: 20, temperature: 0 }));
  });
});

/** Returns the i-th of many names of six letters, all of which differ. */
function word(i: number): string {
  return Array.from({ length: 6 }, (_, place) =>
    String.fromCharCode(97 + (Math.floor((i * 7919) / 26 ** place) % 26)),
  ).join("");
}

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

const around = { version: "1.0", added_tokens: [], normalizer: null, post_processor: null };

function bpe(
  count: number,
  first: readonly string[],
  mark: string,
): { vocab: Record<string, number>; merges: string[] } {
  const tokens = new Set([...first, mark, ...Array.from("abcdefghijklmnopqrstuvwxyz")]);
  const merges: string[] = [];
  const add = (left: string, right: string): string => {
    if (!tokens.has(left + right)) merges.push(`${left} ${right}`);
    tokens.add(left + right);
    return left + right;
  };
  for (let i = 0; tokens.size < count + first.length + 27; i++) {
    let token = mark;
    for (const letter of word(i)) token = add(token, letter);
  }
  return { vocab: Object.fromEntries([...tokens].map((token, id) => [token, id])), merges };
}

function largeByteLevel(count: number): object {
  const pre_tokenizer = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  const model = { type: "BPE", ...bpe(count, [...byteLevel.keys()], "Ġ") };
  return { ...around, normalizer: { type: "NFC" }, pre_tokenizer, decoder: { type: "ByteLevel" }, model };
}

function largeSpaced(count: number): object {
  const normalizers = [
    { type: "Prepend", prepend: "▁" },
    { type: "Replace", pattern: { String: " " }, content: "▁" },
  ];
  const bytes = Array.from({ length: 256 }, (_, byte) => byteName(byte));
  const model = { type: "BPE", byte_fallback: true, fuse_unk: true, ...bpe(count, bytes, "▁") };
  const decoder = { type: "Sequence", decoders: [{ type: "ByteFallback" }, { type: "Fuse" }] };
  return { ...around, normalizer: { type: "Sequence", normalizers }, pre_tokenizer: null, decoder, model };
}

function largeUnigram(count: number): object {
  const words = Object.keys(bpe(count, ["<unk>"], "▁").vocab);
  const model = { type: "Unigram", unk_id: 0, vocab: words.map((token, i) => [token, -1 - (i % 97) / 8]) };
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: false };
  const file = new URL("./fixtures/sentencepiece.json.gz", import.meta.url);
  const { characters } = JSON.parse(gunzipSync(readFileSync(file)).toString()) as { characters: string };
  const normalizer = { type: "Precompiled", precompiled_charsmap: characters };
  return { ...around, normalizer, pre_tokenizer: metaspace, decoder: metaspace, model };
}

/** Makes a tiny model, to be saved with a tokenizer. */
function tiny(): GPT {
  return new GPT({ vocabularySize: 8, width: 8, layers: 1, heads: 1, contextLength: 8 }, { seed: 1, device: "cpu" });
}

/** Writes a CTranslate2 translator of a realistic width with many tokens. */
function writeTranslator(folder: string): void {
  const [width, hidden, tokens] = [512, 256, nightly ? 30_000 : 20_000];
  const zeros = (name: string, ...shape: number[]): Buffer =>
    variable({ name, shape, values: new Float32Array(shape.reduce((a, b) => a * b, 1)) });
  const linear = (name: string, out: number, inputs: number) => [
    zeros(`${name}/weight`, out, inputs),
    zeros(`${name}/bias`, out),
  ];
  const norm = (name: string) => [zeros(`${name}/layer_norm/gamma`, width), zeros(`${name}/layer_norm/beta`, width)];
  const layer = (side: string, cross: boolean) => [
    ...norm(`${side}/layer_0/self_attention`),
    ...linear(`${side}/layer_0/self_attention/linear_0`, 3 * width, width),
    ...linear(`${side}/layer_0/self_attention/linear_1`, width, width),
    ...(cross
      ? [
          ...norm(`${side}/layer_0/attention`),
          ...linear(`${side}/layer_0/attention/linear_0`, width, width),
          ...linear(`${side}/layer_0/attention/linear_1`, 2 * width, width),
          ...linear(`${side}/layer_0/attention/linear_2`, width, width),
        ]
      : []),
    ...norm(`${side}/layer_0/ffn`),
    ...linear(`${side}/layer_0/ffn/linear_0`, hidden, width),
    ...linear(`${side}/layer_0/ffn/linear_1`, width, hidden),
    ...norm(side),
  ];
  const variables = [
    zeros("encoder/embeddings/weight", 8, width),
    ...layer("encoder", false),
    zeros("decoder/embeddings/weight", tokens, width),
    ...layer("decoder", true),
    ...linear("decoder/projection", tokens, width),
  ];
  writeFileSync(path.join(folder, "model.bin"), modelFile(variables, { spec: "TransformerBase" }));
  const names = (count: number): string =>
    ["<s>", "</s>", "<unk>", ...Array.from({ length: count - 3 }, (_, i) => String.fromCodePoint(0x20000 + i))]
      .map((token) => `${token}\n`)
      .join("");
  writeFileSync(path.join(folder, "source_vocabulary.txt"), names(8));
  writeFileSync(path.join(folder, "target_vocabulary.txt"), names(tokens));
}
