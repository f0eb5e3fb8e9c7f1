/**
 * Tests a GPT with other parts than GPT-2's, packed documents and prefixes: with and without a cache, saved and loaded.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import type { GptConfig } from "../../lib/models/gpt-config.js";
import { native } from "../../lib/core/native.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { tensor } from "../../lib/core/creation.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { saveCheckpoint } from "../../lib/train/checkpoint.js";
import { expectClose } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { instanceOf } from "../support/instance.js";
import { Random } from "../support/random.js";
import { bestIsa, targets } from "../support/targets.js";
import { expectPackedIsAlone, logitsOf } from "./packed-documents.js";

const V = 11;
const size = { vocabularySize: V, contextLength: 24, layers: 2, heads: 3, width: 12 };

type Options = Partial<GptConfig>;

const configs: Options[] = [
  { window: 5 },
  { positions: "alibi" },
  { softcap: 0.5 },
  { window: 7, positions: "alibi", softcap: 2 },
  { positions: "none", kvHeads: 1 },
  { positions: "sinusoidal", embeddingScale: 3, residualScale: 0.5 },
  {
    positions: "rotary",
    qkNorm: true,
    normalization: "rms",
    gated: true,
    feedForwardWidth: 20,
    bias: false,
    tied: false,
  },
];

/** Returns a model with weights that are large enough for attention to matter. */
function modelOf(options: Options, device: string): GPT {
  const model = new GPT({ ...size, ...options }, { seed: 4, device });
  const random = new Random(5);
  for (const parameter of model.parameters())
    parameter.set(Float32Array.from({ length: parameter.size }, () => 0.6 * random.normal()));
  return model;
}

const random = new Random(6);
const tokens = (count: number): Int32Array => Int32Array.from({ length: count }, () => random.integer(V));

const idsOf = (values: Int32Array, batch: number, device: string): IntTensor =>
  tensor(values, [batch, values.length / batch], { device });

/** Error of two layers whose sums are computed in another order. */
const rounding = { relative: 32, absolute: 64 };

afterAll(() => native.selectIsa(bestIsa));

describe.each(targets)("a GPT on $name", (target) => {
  const { device } = target;

  test.each(configs)("%j: a cache gives the logits of the whole sequence, token by token", async (options) => {
    target.select();
    using model = modelOf(options, device);
    const values = tokens(2 * 20);
    const expected = await logitsOf(model, values, 2);
    using cache = model.createCache(2);
    for (let at = 0, count = 6; at < 20; at += count, count = 1) {
      const part = Int32Array.from(
        { length: 2 * count },
        (_, i) => values[Math.floor(i / count) * 20 + at + (i % count)]!,
      );
      const logits = await logitsOf(model, part, 2, { cache });
      for (let row = 0; row < 2; row++) {
        const got = logits.slice(row * count * V, (row + 1) * count * V);
        const want = expected.slice((row * 20 + at) * V, (row * 20 + at + count) * V);
        expectClose(`row ${row}, from position ${at}`, got, want, rounding);
      }
    }
  });

  test.each([{}, ...configs])("%j: packed documents equal the documents alone, gradients too", async (options) => {
    target.select();
    using model = modelOf(options, device);
    await expectPackedIsAlone(model, tokens, { logits: rounding, gradient: { relative: 0, absolute: 600 } });
  });

  test.each(configs)("%j: padding at the end changes nothing of the real tokens", async (options) => {
    target.select();
    using model = modelOf(options, device);
    const values = tokens(3 * 15);
    const lengths = [15, 4, 9];
    using keyLengths = tensor(Int32Array.from(lengths), [3], { device });
    const padded = await logitsOf(model, values, 3, { keyLengths });
    for (const [b, length] of lengths.entries()) {
      const alone = await logitsOf(model, values.slice(15 * b, 15 * b + length), 1);
      expectClose(`sequence ${b}`, padded.slice(15 * b * V, (15 * b + length) * V), alone, rounding);
    }
  });

  test.each([{}, ...configs])("%j: a prefix sees itself, in a cache too", async (options) => {
    target.select();
    using model = modelOf(options, device);
    const values = tokens(2 * 12);
    const prefixLengths = [6, 0];
    const logits = await logitsOf(model, values, 2, { prefixLengths });
    const causal = await logitsOf(model, values, 2);
    const row = (x: Float32Array, b: number, t: number): Float32Array =>
      x.slice((12 * b + t) * V, (12 * b + t + 1) * V);
    // Without a prefix nothing changes. With a prefix, its first token depends on its last, but not on what follows.
    for (let t = 0; t < 12; t++) expectClose(`token ${t}`, row(logits, 1, t), row(causal, 1, t), rounding);
    const changed = async (at: number): Promise<Float32Array> => {
      const other = values.slice();
      other[at] = (other[at]! + 1) % V;
      return logitsOf(model, other, 2, { prefixLengths });
    };
    const near = (options.window ?? 0) > 0 ? 3 : 0;
    expect(row(await changed(5), 0, near)).not.toEqual(row(logits, 0, near));
    expect(row(await changed(6), 0, near)).toEqual(row(logits, 0, near));
    // The prefix at once, then token by token.
    using cache = model.createCache(2);
    const first = Int32Array.from([...values.slice(0, 6), ...values.slice(12, 18)]);
    const head = await logitsOf(model, first, 2, { cache, prefixLengths });
    expectClose("prefix", head.slice(0, 6 * V), logits.slice(0, 6 * V), rounding);
    for (let t = 6; t < 12; t++) {
      const step = await logitsOf(model, Int32Array.of(values[t]!, values[12 + t]!), 2, { cache });
      for (const b of [0, 1])
        expectClose(`token ${t} of ${b}`, step.slice(b * V, (b + 1) * V), row(logits, b, t), rounding);
    }
  });

  test("blocks: hidden tokens change nothing, in a cache too", async () => {
    target.select();
    using gpt = modelOf({}, device);
    using llama = new Llama({ ...size, layers: 1, kvHeads: 1, feedForwardWidth: 20 }, { seed: 4, device });
    // Each block of four tokens sees itself and the block before it.
    const mask = Uint8Array.from({ length: 36 }, (_, i) => Number([0, 1].includes(Math.floor(i / 6) - (i % 6))));
    using visible = tensor(mask, [1, 1, 6, 6], { device, dtype: "u8" });
    const blocks = { mask: visible, size: 4 };
    const values = tokens(24);
    const changed = values.slice();
    for (let t = 0; t < 8; t++) changed[t] = (changed[t]! + 1) % V;
    for (const model of [gpt, llama]) {
      const all = await logitsOf(model, values, 1, { blocks });
      expect(await logitsOf(model, values, 1)).not.toEqual(all);
      // Through two layers a token depends on the two blocks before its own, and through one layer on the last block.
      const first = model === gpt ? 16 : 12;
      const other = await logitsOf(model, changed, 1, { blocks });
      expect(other.slice(first * V)).toEqual(all.slice(first * V));
      expect(other.slice((first - 4) * V, first * V)).not.toEqual(all.slice((first - 4) * V, first * V));
      using cache = model.createCache(1);
      const head = await logitsOf(model, values.slice(0, 7), 1, { cache, blocks });
      expectClose("first tokens", head, all.slice(0, 7 * V), rounding);
      for (let t = 7; t < 24; t++) {
        const step = await logitsOf(model, values.slice(t, t + 1), 1, { cache, blocks });
        expectClose(`token ${t}`, step, all.slice(t * V, (t + 1) * V), rounding);
      }
    }
  });

  test.each(configs)("%j: greedy generation agrees with full passes", async (options) => {
    target.select();
    using model = modelOf(options, device);
    const prompt = tokens(5);
    const [generated] = await generateTokens(model, [prompt], { maxTokens: 12, temperature: 0 });
    const all = [...prompt];
    for (let i = 0; i < 12; i++) {
      const logits = (await logitsOf(model, Int32Array.from(all), 1)).slice(-V);
      all.push(logits.indexOf(Math.max(...logits)));
    }
    expect([...generated!.tokens]).toEqual(all.slice(5));
  });
});

test("a scale of the embeddings, a table of sines and a separate head follow their definitions", async () => {
  const values = tokens(2 * 9);
  const options: Options = { positions: "sinusoidal", embeddingScale: 3, tied: false };
  using model = modelOf(options, "cpu");
  using twin = new GPT({ ...size, tied: false }, { device: "cpu" });
  const from = model.stateDict();
  for (const [name, parameter] of twin.namedParameters()) {
    if (name === "wpe.weight") {
      // Vaswani et al. 2017, §3.5
      const table = Float32Array.from({ length: parameter.size }, (_, i) => {
        const [position, dimension] = [Math.floor(i / size.width), i % size.width];
        const angle = position / 10_000 ** ((2 * Math.floor(dimension / 2)) / size.width);
        return dimension % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
      });
      parameter.set(table);
    } else {
      const data = await from[name]!.data();
      parameter.set(name === "wte.weight" ? data.map((x) => 3 * x) : data);
    }
  }
  expectClose("logits", await logitsOf(model, values, 2), await logitsOf(twin, values, 2), rounding);
});

const scales: Options[] = [
  { scaleAttention: false },
  { scaleAttentionByLayer: true },
  { scaleAttention: false, scaleAttentionByLayer: true, positions: "rotary", qkNorm: false },
];

test.each(scales)("%j: scores are scaled as if the queries were, and a saved folder says so", async (options) => {
  using model = modelOf(options, "cpu");
  using twin = new GPT({ ...size, positions: options.positions ?? "learned" }, { device: "cpu" });
  const from = model.stateDict();
  const { width, heads } = size;
  for (const [name, parameter] of twin.namedParameters()) {
    const data = (await from[name]!.data()).slice();
    const [, layer] = /^h\.(\d+)\.attn\.c_attn\./.exec(name) ?? [];
    if (layer !== undefined) {
      const root = options.scaleAttention === false ? Math.sqrt(width / heads) : 1;
      const factor = root / (options.scaleAttentionByLayer ? Number(layer) + 1 : 1);
      // [C, 3·C] or [3·C]: the first third of the outputs are queries.
      for (let i = 0; i < data.length; i++) if (i % (3 * width) < width) data[i]! *= factor;
    }
    parameter.set(data);
  }
  const values = tokens(2 * 9);
  expectClose("logits", await logitsOf(model, values, 2), await logitsOf(twin, values, 2), rounding);

  const folder = path.join(temporaryFolder(), "saved");
  await savePretrained(folder, model);
  const { model: loaded } = await loadModel(folder, { device: "cpu" });
  using again = instanceOf(GPT, loaded);
  expect(again.config).toEqual(model.config);
  expect(await logitsOf(again, values, 2)).toEqual(await logitsOf(model, values, 2));
  const written: unknown = JSON.parse(await readFile(path.join(folder, "config.json"), "utf8"));
  const { scaleAttention: scale_attn_weights, scaleAttentionByLayer: scale_attn_by_inverse_layer_idx } = model.config;
  expect(written).toMatchObject({ scale_attn_weights, scale_attn_by_inverse_layer_idx });
  await expectRejection(saveGguf(path.join(folder, "a.gguf"), model), "ERR_ARGUMENT");
});

test.each(configs)("%j survives saving and loading; plain readers of GPT-2 refuse it", async (options) => {
  const folder = temporaryFolder();
  using model = modelOf(options, "cpu");
  using optimizer = new AdamW(model.namedParameters());
  const state = { step: 1, seconds: 1, seed: 1, dropoutSeed: 1, options: {} };
  const at = await saveCheckpoint(folder, { model, optimizer, state });
  const written: unknown = JSON.parse(await readFile(path.join(at, "config.json"), "utf8"));
  expect(written).toMatchObject({ model_type: "heed_gpt" });
  const { model: loaded } = await loadModel(folder, { device: "cpu" });
  expect(loaded).toBeInstanceOf(GPT);
  using again = instanceOf(GPT, loaded);
  expect(again.config).toEqual(model.config);
  const values = tokens(20);
  expect(await logitsOf(again, values, 1)).toEqual(await logitsOf(model, values, 1));
});

test("an invalid configuration, or masks that do not fit, are refused", () => {
  const make = (options: object) => () => new GPT({ ...size, ...options });
  expectError(make({ positions: "rotten" as never }), "ERR_ARGUMENT");
  expectError(make({ normalization: "none" }), "ERR_ARGUMENT");
  expectError(make({ positions: "sinusoidal", width: 9 }), "ERR_SHAPE");
  for (const name of ["qkNorm", "gated", "tied", "bias", "scaleAttention", "scaleAttentionByLayer"])
    expectError(make({ [name]: 1 }), "ERR_ARGUMENT");
  for (const name of ["embeddingScale", "residualScale"]) expectError(make({ [name]: NaN }), "ERR_RANGE");
  expectError(make({ kvHeads: 2 }), "ERR_SHAPE");
  for (const name of ["kvHeads", "feedForwardWidth"]) expectError(make({ [name]: 0 }), "ERR_RANGE");
  for (const window of [-1, 0.5, NaN, null]) expectError(make({ window }), "ERR_RANGE");
  for (const softcap of [-1, NaN, Infinity, "2"]) expectError(make({ softcap }), "ERR_RANGE");
  using model = new GPT(size);
  using cache = model.createCache(2);
  using ids = idsOf(tokens(8), 2, "cpu");
  const forward = (options: object) => () => model.forward(ids, options);
  expectError(forward({ documents: [[4]] }), "ERR_SHAPE");
  expectError(forward({ documents: [[4], [2, 3]] }), "ERR_SHAPE");
  expectError(forward({ documents: [[4], [-1]] }), "ERR_RANGE");
  expectError(forward({ documents: 3 }), "ERR_ARGUMENT");
  expectError(forward({ documents: [[4], [4]], cache }), "ERR_ARGUMENT");
  expectError(forward({ documents: [[4], [4]], prefixLengths: [1, 1] }), "ERR_ARGUMENT");
  expectError(forward({ prefixLengths: [1] }), "ERR_SHAPE");
  expectError(forward({ prefixLengths: [1, -1] }), "ERR_RANGE");
  expectError(forward({ prefixLengths: "ab" }), "ERR_ARGUMENT");
});
