import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { Llama } from "../../lib/models/llama.js";
import { fromHuggingFaceLlamaConfig } from "../../lib/pretrained/families/llama-config.js";
import { checkLlamaConfig, type LlamaConfig } from "../../lib/models/llama-config.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { devices } from "../generate/models.js";
import { expectNear } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { shaken } from "../support/shaken.js";
import { trainedLosses } from "../support/training.js";
import { llamaReference } from "./llama-reference.js";

const base: LlamaConfig = {
  vocabularySize: 19,
  contextLength: 16,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  width: 16,
  feedForwardWidth: 24,
};
const variants: [string, Partial<LlamaConfig>][] = [
  ["Llama", {}],
  ["tied, one head a key", { tied: true, kvHeads: 4 }],
  ["Mistral's window", { window: 3 }],
  ["windows in some layers", { window: 3, layerTypes: ["full", "sliding"] }],
  ["Qwen 2's biases", { attentionBias: true }],
  ["Qwen 3's norms and head size", { qkNorm: true, headSize: 6, tied: true }],
  ["biases everywhere", { attentionBias: true, outputBias: true, feedForwardBias: true }],
  ["part of a head turned", { rotarySize: 2 }],
  ["neighbours turned", { interleaved: true, rotaryBase: 500 }],
  ["gated GELU, one key in all", { activation: "geluErf", kvHeads: 1 }],
];
const ids = Array.from({ length: 12 }, (_, i) => (i * 7 + (i >> 2)) % 19);

/** Runs without recording and frees all intermediate tensors. */
const run = (body: () => FloatTensor) => noGrad(() => scope(body));

const modelOf = (config: Partial<LlamaConfig>, device: string): Llama =>
  shaken(new Llama({ ...base, ...config }, { device }));

describe.each(devices)("Llama on %s", (device) => {
  const int = (...rows: number[][]) => tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]!.length], { device });

  test.each(variants)("%s: logits follow the equations", async (_, config) => {
    using model = modelOf(config, device);
    const logits = run(() => model.forward(int(ids)));
    const weights: Record<string, Float32Array> = {};
    for (const [name, weight] of model.namedParameters()) weights[name] = await weight.data();
    const expected = llamaReference(model.config, weights, ids);
    expectNear("logits", await logits.data(), expected, 2e-5);
    logits.dispose();
  });

  test.each(variants)("%s: a cache gives the same results as the whole sequence", async (_, config) => {
    using model = modelOf(config, device);
    const whole = run(() => model.forward(int(ids, ids)));
    const expected = await whole.data();
    whole.dispose();
    using cache = model.createCache(2, 14);
    const rowOf = (t: number) => expected.slice(t * 19, t * 19 + 19);
    const close = (got: Float32Array, row: number, t: number) => {
      for (const [v, value] of rowOf(t).entries()) expect(Math.abs(got[row * 19 + v]! - value)).toBeLessThan(1e-4);
    };
    // Prompts of 7 and 4 tokens, padded, then five steps.
    const prompts = [ids.slice(0, 7), [...ids.slice(0, 4), 0, 0, 0]];
    const first = run(() => model.forward(int(...prompts), { cache, counts: [7, 4], lastOnly: true }));
    let got = await first.data();
    first.dispose();
    close(got, 0, 6);
    close(got, 1, 3);
    for (let step = 0; step < 5; step++) {
      const next = run(() =>
        model.forward(int([ids[7 + step]!], [ids[4 + step]!]), {
          cache,
          lastOnly: true,
        }),
      );
      got = await next.data();
      next.dispose();
      close(got, 0, 7 + step);
      close(got, 1, 4 + step);
    }
  });

  test("a generation whose steps are recorded agrees with full passes, with windows in some layers", async () => {
    using model = modelOf({ window: 3, layerTypes: ["sliding", "full"] }, device);
    const prompt = ids.slice(0, 4);
    const [generated] = await generateTokens(model, [prompt], { maxTokens: 10, temperature: 0 });
    const all = [...prompt];
    for (let i = 0; i < 10; i++) {
      const logits = run(() => model.forward(int(all), { lastOnly: true }));
      const values = await logits.data();
      logits.dispose();
      all.push(values.indexOf(Math.max(...values)));
    }
    expect(generated!.tokens).toEqual(all.slice(4));
  });

  test("padding is not seen, and nothing stays in memory", async () => {
    const { live, tensors } = deviceOf(device).memory();
    {
      using model = modelOf({}, device);
      const lengths = tensor(Int32Array.of(5), [1], { device });
      const logits = run(() => model.forward(int(ids), { keyLengths: lengths }));
      const short = run(() => model.forward(int(ids.slice(0, 5))));
      const [a, b] = [await logits.data(), await short.data()];
      for (const [i, value] of b.entries()) expect(Math.abs(a[i]! - value)).toBeLessThan(1e-5);
      for (const t of [logits, short, lengths]) t.dispose();
    }
    expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
  });

  test("learns", async () => {
    using model = new Llama({ ...base, tied: true, qkNorm: true }, { device, seed: 1 });
    using optimizer = new AdamW(model.namedParameters(), { lr: 1e-2 });
    const losses = await trainedLosses(optimizer, 20, () => model.loss(int(ids.slice(0, -1)), int(ids.slice(1))));
    expect(losses.at(-1)).toBeLessThan(losses[0]! / 2);
  });

  test("refuses invalid input", () => {
    using model = modelOf({}, device);
    scope(() => {
      const bad = int([...ids, ...ids]);
      expectError(() => model.forward(bad), "ERR_SHAPE");
      expectError(() => model.forward(tensor(Int32Array.of(1, 2), [2], { device })), "ERR_SHAPE");
      expectError(() => model.createCache(1, 17), "ERR_RANGE");
      expectError(() => model.forward(bad, { cache: {} as never }), "ERR_ARGUMENT");
    });
  });
});

describe("configurations", () => {
  const llama = {
    model_type: "llama",
    vocab_size: 128256,
    max_position_embeddings: 131072,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    hidden_size: 4096,
    intermediate_size: 14336,
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    rope_scaling: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    attention_bias: false,
    tie_word_embeddings: false,
  };

  test("of a Llama 3.1", () => {
    expect(checkLlamaConfig(fromHuggingFaceLlamaConfig(llama))).toEqual({
      vocabularySize: 128256,
      contextLength: 131072,
      layers: 32,
      heads: 32,
      kvHeads: 8,
      width: 4096,
      headSize: 128,
      feedForwardWidth: 14336,
      dropout: 0,
      eps: 1e-5,
      tied: false,
      qkNorm: false,
      attentionBias: false,
      outputBias: false,
      feedForwardBias: false,
      activation: "silu",
      window: 0,
      layerTypes: null,
      interleaved: false,
      rotaryBase: 500000,
      rotarySize: 128,
      rotaryScaling: {
        type: "llama3",
        factor: 8,
        originalLength: 8192,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
      },
    });
  });

  test("of its relatives", () => {
    const { attention_bias: _, ...rest } = llama;
    const of = (change: object) =>
      checkLlamaConfig(fromHuggingFaceLlamaConfig({ ...rest, rope_scaling: null, ...change }));
    expect(of({ model_type: "qwen2", use_sliding_window: false, sliding_window: 4096 })).toMatchObject({
      attentionBias: true,
      window: 0,
      rotaryScaling: null,
    });
    for (const full of [{}, { use_sliding_window: true, max_window_layers: llama.num_hidden_layers }])
      expect(of({ model_type: "qwen2", sliding_window: 4096, ...full })).toMatchObject({ window: 0 });
    const windowed = { use_sliding_window: true, max_window_layers: 0 };
    expect(of({ model_type: "qwen2", sliding_window: 4096, ...windowed })).toMatchObject({ window: 4096 });
    expect(of({ model_type: "qwen3", head_dim: 64, tie_word_embeddings: true })).toMatchObject({
      qkNorm: true,
      headSize: 64,
      tied: true,
    });
    expect(of({ model_type: "mistral", sliding_window: 4096 })).toMatchObject({ window: 4096 });
    expect(of({ rope_scaling: { type: "linear", factor: 2 } }).rotaryScaling).toEqual({ type: "linear", factor: 2 });
    expect(of({ rope_parameters: { rope_type: "default", rope_theta: 7 } })).toMatchObject({
      rotaryBase: 7,
      rotaryScaling: null,
    });
  });

  test.each<[string, unknown]>([
    ["nothing", null],
    ["another model", { ...llama, model_type: "bert" }],
    ["the prototype's", { ...llama, model_type: "toString" }],
    ["no width", { ...llama, hidden_size: 0 }],
    ["an unknown activation", { ...llama, hidden_act: "relu6" }],
    ["an unknown scaling", { ...llama, rope_scaling: { rope_type: "longrope" } }],
  ])("refuses %s", (_, json) => expectError(() => fromHuggingFaceLlamaConfig(json), "ERR_FORMAT"));

  test.each<[Partial<LlamaConfig>, string]>([
    [{ heads: 3 }, "ERR_SHAPE"],
    [{ kvHeads: 3 }, "ERR_SHAPE"],
    [{ layers: 0 }, "ERR_RANGE"],
    [{ rotarySize: 5, headSize: 4 }, "ERR_RANGE"],
    [{ activation: "other" as "silu" }, "ERR_ARGUMENT"],
    [{ window: 3, layerTypes: ["full"] }, "ERR_SHAPE"],
    [{ window: 3, layerTypes: ["full", "none" as "full"] }, "ERR_ARGUMENT"],
    [{ window: 3, layerTypes: "full" as never }, "ERR_ARGUMENT"],
    [{ layerTypes: ["full", "sliding"] }, "ERR_RANGE"],
  ])("refuses %j", (change, code) => {
    expectError(() => new Llama({ ...base, ...change }, { device: "cpu" }), code as "ERR_SHAPE");
  });
});
