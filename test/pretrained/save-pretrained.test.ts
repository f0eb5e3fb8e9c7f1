/** Saved folders must load again, also in Python, where a NumPy reference must give the same logits. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { bitsOf, type FloatDType, floatsOf } from "../../lib/core/dtype.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import { generate } from "../../lib/generate/generate-text.js";
import { GPT } from "../../lib/models/gpt.js";
import { fromHuggingFaceLlamaConfig, toHuggingFaceLlamaConfig } from "../../lib/pretrained/families/llama-config.js";
import { checkLlamaConfig, type LlamaConfig } from "../../lib/models/llama-config.js";
import { Llama } from "../../lib/models/llama.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { loadTokenizer } from "../../lib/pretrained/load-tokenizer.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { rotaryFrequencies } from "../../lib/ops/rotary-table.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { numpy } from "../support/python.js";
import { describeUnless, testUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { shaken } from "../support/shaken.js";
import { noShared, sharedModel } from "../support/shared.js";
import { onEachDevice } from "../support/targets.js";

let folder = "";
beforeEach(() => {
  folder = path.join(temporaryFolder(), "models", "mine");
});
const readJson = (name: string) => JSON.parse(readFileSync(path.join(folder, name), "utf8")) as Record<string, unknown>;

const ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3];
const base: LlamaConfig = {
  vocabularySize: 13,
  contextLength: 16,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  width: 16,
  feedForwardWidth: 24,
};

const llama = (options: Partial<LlamaConfig> = {}, device = "cpu") =>
  shaken(new Llama({ ...base, ...options }, { device }));
const gpt = (device = "cpu") =>
  shaken(new GPT({ vocabularySize: 13, contextLength: 16, layers: 2, heads: 2, width: 16 }, { device }));

async function logits(model: { forward: (ids: IntTensor) => FloatTensor }, device: string): Promise<Float32Array> {
  using out = noGrad(() => scope(() => model.forward(tensor(Int32Array.from(ids), [1, ids.length], { device }))));
  return await out.data();
}

const variants: [string, string, Partial<LlamaConfig>][] = [
  ["Llama", "llama", {}],
  ["with neighbours turned, as in llama2.c", "llama", { interleaved: true, tied: true }],
  ["with biases", "llama", { attentionBias: true, outputBias: true, feedForwardBias: true }],
  ["with positions scaled", "llama", { rotaryScaling: { type: "linear", factor: 2 } }],
  ["with factors of positions", "llama", { rotaryScaling: { type: "factors", factors: [1, 3] } }],
  ["Mistral", "mistral", { window: 3 }],
  ["Qwen 2", "qwen2", { attentionBias: true }],
  ["Qwen 2, neighbours turned", "qwen2", { attentionBias: true, interleaved: true }],
  [
    "Qwen 2 with windows",
    "qwen2",
    { attentionBias: true, window: 3, layers: 3, layerTypes: ["sliding", "full", "sliding"] },
  ],
  ["Qwen 3 with a window", "qwen3", { qkNorm: true, window: 3, layerTypes: ["full", "sliding"] }],
  ["Qwen 3", "qwen3", { qkNorm: true, headSize: 6, tied: true }],
  ["Qwen 3, neighbours turned", "qwen3", { qkNorm: true, headSize: 6, interleaved: true }],
];

const program = fileURLToPath(new URL("reference.py", import.meta.url));
const reference = () =>
  JSON.parse(execFileSync(numpy.command, [program, folder, JSON.stringify(ids)], { encoding: "utf8" })) as number[];

describeUnless(numpy.missing)("in Python, by NumPy", () => {
  test.each(variants)("%s", async (_, type, options) => {
    using model = llama(options);
    await savePretrained(folder, model, { shardBytes: 6000 });
    expect(readJson("config.json").model_type).toBe(type);
    expectNear("logits", await logits(model, "cpu"), reference(), 2e-5);
  });

  test("GPT-2", async () => {
    using model = gpt();
    await savePretrained(folder, model);
    expectNear("logits", await logits(model, "cpu"), reference(), 2e-5);
  });
});

onEachDevice((device) => {
  test.each(variants)("%s is loaded again", async (_, __, options) => {
    using model = llama(options, device);
    await savePretrained(folder, model);
    const { model: loaded } = await loadPretrained(folder, { device });
    expect(loaded.config).toEqual({ ...model.config, interleaved: false });
    expectNear("logits", await logits(loaded, device), await logits(model, device), 1e-6);
    loaded.dispose();
  });

  test.each<FloatDType>(["f32", "bf16", "f16"])("a GPT in %s, to the bit", async (dtype) => {
    using model = gpt(device);
    model.to(dtype);
    await savePretrained(folder, model);
    await using file = await readSafetensors(path.join(folder, "model.safetensors"));
    expect(file.tensors.get("wte.weight")!.dtype).toBe({ f32: "F32", bf16: "BF16", f16: "F16" }[dtype]);
    const { model: loaded } = await loadPretrained(folder, { device, dtype });
    expect(await logits(loaded, device)).toEqual(await logits(model, device));
    loaded.dispose();
  });
});

test("another dtype than the model's rounds", async () => {
  using model = gpt();
  await savePretrained(folder, model, { dtype: "bf16" });
  await using file = await readSafetensors(path.join(folder, "model.safetensors"));
  const values = await model.wte.weight.data();
  expect(await file.readFloats("wte.weight")).toEqual(floatsOf("bf16", bitsOf("bf16", values)));
  expect(readJson("config.json").torch_dtype).toBe("bfloat16");
});

test("shards of a given size, exceeded only by a shard with one tensor", async () => {
  using model = llama();
  let last: number[] = [];
  await savePretrained(folder, model, {
    shardBytes: 2000,
    onProgress: ({ written, total }) => (last = [written, total]),
  });
  const names = readdirSync(folder).sort();
  const shards = names.filter((name) => name.endsWith(".safetensors"));
  expect(shards.length).toBeGreaterThan(3);
  expect(shards[1]).toBe(`model-00002-of-${String(shards.length).padStart(5, "0")}.safetensors`);
  expect(names.filter((name) => !shards.includes(name))).toEqual(["config.json", "model.safetensors.index.json"]);
  for (const name of shards) {
    await using file = await readSafetensors(path.join(folder, name));
    const bytes = [...file.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(file.tensors.size === 1 || bytes <= 2000).toBe(true);
  }
  const total = (readJson("model.safetensors.index.json").metadata as { total_size: number }).total_size;
  expect(total).toBe(4 * model.parameterCount());
  expect(last).toEqual([model.parameters().length, model.parameters().length]);
});

test("the tokenizer, its template, and the generation defaults", async () => {
  using model = shaken(
    new GPT({ vocabularySize: 269, contextLength: 16, layers: 1, heads: 2, width: 16 }, { device: "cpu" }),
  );
  const config = { bos_token: "<|begin|>", eos_token: "<|end|>" };
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config, chatTemplate: "{{ messages[0].content }}!" });
  const defaults = { stopTokens: [266, 3], temperature: 0.7 };
  await savePretrained(folder, model, { tokenizer, defaults });
  expect(readdirSync(folder).sort()).toEqual([
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
  expect(readJson("generation_config.json")).toMatchObject({ bos_token_id: 265, eos_token_id: [266, 3] });
  const loaded = await loadModel(folder, { device: "cpu" });
  expect(loaded.defaults).toEqual(defaults);
  const again = loaded.tokenizer as HuggingFaceTokenizer;
  expect(again.encode("hello world")).toEqual(tokenizer.encode("hello world"));
  expect(again.encodeChat([{ role: "user", content: "hello" }])).toEqual(tokenizer.encode("hello!").slice(1));
  loaded.model.dispose();
});

const stories = sharedModel("stories260K");
testUnless(!stories && noShared)(
  "stories260K, converted from llama2.c's files, generates its story",
  { timeout: 60_000 },
  async () => {
    const source = await loadModel(stories!, { device: "cpu" });
    await savePretrained(folder, source.model, { tokenizer: source.tokenizer });
    const loaded = await loadModel(folder, { device: "cpu" });
    const text = (await generate(loaded.model, loaded.tokenizer, "", { maxTokens: 256, temperature: 0 })).text;
    expect(`${text}\n`).toBe(readFileSync(path.join(stories!, "EXPECTED_greedy.txt"), "utf8"));
    source.model.dispose();
    loaded.model.dispose();
  },
);

describe("an existing folder", () => {
  test("is left unchanged unless it may be overwritten; files that belong to no model stay", async () => {
    using old = llama();
    using model = gpt();
    await savePretrained(folder, old, { shardBytes: 2000 });
    writeFileSync(path.join(folder, "README.md"), "mine");
    const before = readdirSync(folder);
    await expectRejection(savePretrained(folder, model), "ERR_IO", /new or empty, got one with /);
    expect(readdirSync(folder)).toEqual(before);
    await savePretrained(folder, model, { overwrite: true });
    expect(readdirSync(folder).sort()).toEqual(["README.md", "config.json", "model.safetensors"]);
    expect(readdirSync(path.dirname(folder))).toEqual(["mine"]);
    const loaded = await loadModel(folder, { device: "cpu" });
    expect(loaded.model).toBeInstanceOf(GPT);
    loaded.model.dispose();
  });

  test("whose model was being replaced when the process was killed still has the old one", async () => {
    const tokenizer = new HuggingFaceTokenizer(byteLevelJson());
    const size = { contextLength: 16, layers: 1, heads: 2, width: 16 };
    using old = shaken(new GPT({ vocabularySize: tokenizer.vocabularySize, ...size }, { device: "cpu" }));
    using model = llama();
    await savePretrained(folder, old, { tokenizer });
    // As replace-files.test.ts finds it after a kill: a copy of the old files, and some of the new ones without the key.
    const before = path.join(folder, "replacing", "before");
    mkdirSync(before, { recursive: true });
    const names = readdirSync(folder).filter((name) => name !== "replacing");
    expect(names).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json"]));
    for (const name of names) renameSync(path.join(folder, name), path.join(before, name));
    for (const name of ["model.safetensors", "tokenizer.json"]) writeFileSync(path.join(folder, name), "new");
    expect((await loadTokenizer(folder)).encode("hello")).toEqual(tokenizer.encode("hello"));
    for (const find of [loadModel, loadPretrained]) {
      const loaded = await find(folder, { device: "cpu" });
      expect(loaded.model).toBeInstanceOf(GPT);
      loaded.model.dispose();
    }
    await savePretrained(folder, model, { overwrite: true });
    expect(readdirSync(folder).sort()).toEqual(["config.json", "model.safetensors"]);
    const loaded = await loadModel(folder, { device: "cpu" });
    expect(loaded.model).toBeInstanceOf(Llama);
    loaded.model.dispose();
  });

  test("that a killed process had begun is removed when another makes it", async () => {
    using model = gpt();
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    const left = (name: string, pid: number): string => `${name}.tmp-${pid}-0123abcd`;
    const parent = path.dirname(folder);
    const names = [left("mine", dead), left("mine", process.ppid), left("yours", dead)];
    for (const name of names) mkdirSync(path.join(parent, name), { recursive: true });
    for (const overwrite of [false, true]) {
      await savePretrained(folder, model, { overwrite });
      // Another process may still write to its own, or to that of another model.
      expect(readdirSync(parent).sort()).toEqual(["mine", ...names.slice(1)].sort());
      mkdirSync(path.join(parent, names[0]!), { recursive: true });
    }
  });

  test("may be empty", async () => {
    mkdirSync(folder, { recursive: true });
    using model = gpt();
    await savePretrained(folder, model);
    expect(readdirSync(folder)).toContain("config.json");
  });
});

describe("refusals", () => {
  test("before anything is written", async () => {
    using model = llama();
    const parent = path.dirname(path.dirname(folder));
    await expectRejection(savePretrained(folder, model.model), "ERR_ARGUMENT", /family that can be saved, got Llama/);
    await expectRejection(savePretrained(folder, model, null!), "ERR_ARGUMENT");
    await expectRejection(savePretrained(folder, model, { dtype: "i32" as "f32" }), "ERR_DTYPE", /got "i32"/);
    await expectRejection(savePretrained(folder, model, { shardBytes: 0 }), "ERR_RANGE");
    using mixed = llama({ window: 3, attentionBias: true, outputBias: true });
    await expectRejection(savePretrained(folder, mixed), "ERR_ARGUMENT", /attentionBias, outputBias, window together/);
    expect(readdirSync(parent)).toEqual([]);
    writeFileSync(path.join(parent, "models"), "a file");
    await expectRejection(savePretrained(folder, model), "ERR_IO", /mine/);
  });
});

describe("Llama's config.json", () => {
  test.each(variants)("%s: saved and loaded again", (_, type, options) => {
    const config = checkLlamaConfig({ ...base, ...options, interleaved: false });
    const json = toHuggingFaceLlamaConfig(config);
    expect(json.model_type).toBe(type);
    expect(checkLlamaConfig(fromHuggingFaceLlamaConfig(JSON.parse(JSON.stringify(json))))).toEqual(config);
  });

  test.each<LlamaConfig["rotaryScaling"]>([
    { type: "dynamic", factor: 2, originalLength: 16 },
    { type: "yarn", factor: 2, originalLength: 8 },
    { type: "yarn", factor: 2, originalLength: 8, betaFast: 16, attentionFactor: 1.5, truncate: false },
    { type: "llama3", factor: 8, originalLength: 8, lowFrequencyFactor: 2, highFrequencyFactor: 8 },
  ])("positions scaled as %j", (rotaryScaling) => {
    const config = checkLlamaConfig({ ...base, rotaryScaling: rotaryScaling! });
    expect(checkLlamaConfig(fromHuggingFaceLlamaConfig(toHuggingFaceLlamaConfig(config)))).toEqual(config);
  });

  test.each<LlamaConfig["rotaryScaling"]>([
    { type: "ntk", factor: 2 },
    { type: "dynamic", factor: 2, originalLength: 8 },
  ])("positions scaled as %j, which is no more than another base", (rotaryScaling) => {
    const config = checkLlamaConfig({ ...base, headSize: 8, rotaryScaling: rotaryScaling! });
    const json = toHuggingFaceLlamaConfig(config);
    expect(json.rope_scaling).toBeNull();
    const { rotaryBase: own } = checkLlamaConfig(fromHuggingFaceLlamaConfig(json));
    const of = { size: 8, length: 16 };
    expect(rotaryFrequencies({ ...of, base: own })).toEqual(rotaryFrequencies({ ...of, scaling: rotaryScaling! }));
  });

  test("partly rotated heads, a window of Qwen's; features without a name", () => {
    for (const options of [{ rotarySize: 2 }, { window: 3, qkNorm: true }, { window: 3, attentionBias: true }]) {
      const config = checkLlamaConfig({ ...base, ...options });
      expect(checkLlamaConfig(fromHuggingFaceLlamaConfig(toHuggingFaceLlamaConfig(config)))).toEqual(config);
    }
    for (let headSize = 2; headSize <= 128; headSize += 2)
      for (let rotarySize = 2; rotarySize <= headSize; rotarySize += 2) {
        const json = toHuggingFaceLlamaConfig(checkLlamaConfig({ ...base, headSize, rotarySize }));
        expect(fromHuggingFaceLlamaConfig(json)).toMatchObject({ headSize, rotarySize });
      }
    const json = toHuggingFaceLlamaConfig(checkLlamaConfig(base));
    const short = { rope_type: "longrope", attention_factor: 1, short_factor: [1, 1], long_factor: [1, 2] };
    const within = fromHuggingFaceLlamaConfig({ ...json, rope_scaling: short });
    expect(within.rotaryScaling).toEqual({ type: "factors", factors: [1, 1] });
    const beyond = { ...short, original_max_position_embeddings: 8 };
    expectError(() => fromHuggingFaceLlamaConfig({ ...json, rope_scaling: beyond }), "ERR_FORMAT", /longrope/);
  });
});
