// families.test.ts compares logits, gradients and training with PyTorch.
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { translate } from "../../lib/generate/translate.js";
import { T5 } from "../../lib/models/t5.js";
import { checkT5Config, type T5Config } from "../../lib/models/t5-config.js";
import { fromHuggingFaceT5Config, toHuggingFaceT5Config } from "../../lib/pretrained/families/t5-config.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { roundoff } from "../support/dtypes.js";
import { expectError, expectRejection } from "../support/errors.js";
import { collectGarbage } from "../support/gc.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";
import { trainedLosses } from "../support/training.js";
import { expectBatchIsItsPairs } from "./padded-batch.js";

const V = 13;
const base: T5Config = {
  vocabularySize: V,
  contextLength: 9,
  layers: 2,
  decoderLayers: 1,
  heads: 2,
  headSize: 5,
  width: 8,
  feedForwardWidth: 11,
  buckets: 8,
  furthest: 6,
};
const v11: Partial<T5Config> = { gated: true, activation: "gelu", tied: false };
const source = [5, 3, 3, 11, 7, 6, 2];
const target = [0, 8, 12, 4, 4];
const labels = [8, 12, 4, 4, 1];

/** Runs without recording and frees all intermediate tensors. */
const run = (body: () => FloatTensor) => noGrad(() => scope(body));

onEachDevice((device) => {
  const int = (...rows: readonly (readonly number[])[]): IntTensor =>
    tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]!.length], { device });
  const lengthsOf = (...lengths: number[]): IntTensor => tensor(Int32Array.from(lengths), [lengths.length], { device });

  /** The biases of positions should have a large effect. */
  const modelOf = (config: Partial<T5Config> = {}): T5 =>
    shaken(new T5({ ...base, ...config }, { device }), { std: (name) => (name.includes("relative") ? 1 : 0.3) });

  test.each([
    ["1.0", {}],
    ["1.1", v11],
  ])("%s: a cache gives what the whole gives", async (_, config) => {
    using model = modelOf(config);
    const sources = [source, [4, 9, 6, 0, 0, 0, 0]];
    using whole = run(() => model.forward(int(...sources), int(target, target), { sourceLengths: lengthsOf(7, 3) }));
    const expected = await whole.data();
    using decoder = model.decoderFor(int(...sources), { lengths: lengthsOf(7, 3) });
    using cache = decoder.createCache(2, 8);
    const expectRow = (got: Float32Array, row: number, t: number): void =>
      expectClose(
        `row ${row}, position ${t}`,
        got.slice(row * V, (row + 1) * V),
        expected.slice((row * 5 + t) * V, (row * 5 + t + 1) * V),
        { relative: 0, absolute: 100 },
      );
    // Two tokens and one token of the target, padded, then step by step: the sequences have different lengths.
    let logits = run(() => decoder.forward(int([0, 8], [0, 0]), { cache, counts: [2, 1], lastOnly: true }));
    for (let step = 0; ; step++) {
      const got = await logits.data();
      logits.dispose();
      expectRow(got, 0, step + 1);
      expectRow(got, 1, step);
      if (step === 3) break;
      logits = run(() => decoder.forward(int([target[step + 2]!], [target[step + 1]!]), { cache, lastOnly: true }));
    }
  });

  test("a padded batch equals its sequences one by one, forward and backward", async () => {
    using model = modelOf(v11);
    const pairs = [
      { source, target, labels },
      { source: [4, 9, 6], target: [0, 8], labels: [3, 1] },
      { source: [7], target: [0, 5, 6, 6], labels: [5, 6, 6, 1] },
    ];
    await expectBatchIsItsPairs(model, pairs, { relative: 0, absolute: 100 });
  });

  test("generation takes the likeliest token of each step, for several sources and with beams", async () => {
    using model = modelOf();
    const sources = [source, [4, 9, 6, 0, 0, 0, 0], [12, 0, 0, 0, 0, 0, 0]];
    const lengths = [7, 3, 1];
    const expected: number[][] = [];
    for (const [i, row] of sources.entries()) {
      const tokens = [0];
      for (let step = 0; step < 6; step++) {
        using logits = run(() => model.forward(int(row.slice(0, lengths[i])), int(tokens)));
        const last = (await logits.data()).slice(-V);
        tokens.push(last.indexOf(Math.max(...last)));
      }
      expected.push(tokens.slice(1));
    }
    expect(new Set(expected.map(String)).size).toBeGreaterThan(1);
    using decoder = model.decoderFor(int(...sources), { lengths: lengthsOf(...lengths) });
    const prompts = sources.map(() => [0]);
    const greedy = await generateTokens(decoder, prompts, { temperature: 0, maxTokens: 6 });
    expect(greedy.map(({ tokens }) => [...tokens])).toEqual(expected);
    const real = sources.map((row, i) => row.slice(0, lengths[i]));
    const best = async (rows: number[][]) =>
      (await translate(model, rows, { beams: 3, maxTokens: 6 })).map(([first]) => [...first!.tokens]);
    const together = await best(real);
    for (const [i, row] of real.entries()) expect([together[i]]).toEqual(await best([row]));
    await expectRejection(translate(model, [[V]]), "ERR_RANGE", /sources\[0\]/);
  });

  test.each(["bf16", "f16"] as const)("%s beside parameters of f32, and alone", async (dtype) => {
    using model = modelOf(v11);
    using exact = run(() => model.forward(int(source), int(target)));
    const expected = await exact.data();
    const scale = Math.max(...Array.from(expected, Math.abs));
    const expectNear = async (): Promise<void> => {
      using logits = run(() => model.forward(int(source), int(target), { sourceLengths: lengthsOf(7) }));
      expect(logits.dtype).toBe(dtype);
      const worst = Math.max(...Array.from(await logits.data(), (value, i) => Math.abs(value - expected[i]!)));
      // Weights, activations, scores and attention weights of three blocks are rounded: some two dozen roundings.
      expect(worst).toBeLessThan(32 * roundoff(dtype) * scale);
      expect(worst).toBeGreaterThan(0);
      using decoder = model.decoderFor(int(source));
      const generated = await generateTokens(decoder, [[0]], { temperature: 0, maxTokens: 3 });
      expect(generated[0]!.tokens.length).toBe(3);
    };
    model.dtype = dtype;
    await expectNear();
    scope(() => model.loss(int(source), int(target), int(labels)).backward());
    for (const { grad } of model.parameters()) expect(grad!.dtype).toBe("f32");
    model.zeroGrad();
    model.to(dtype);
    await expectNear();
  });

  test("learns with dropout, which is off in inference; nothing stays in memory", async () => {
    await collectGarbage();
    const { live, tensors } = deviceOf(device).memory();
    {
      using model = new T5({ ...base, dropout: 0.1 }, { device, seed: 1 });
      using optimizer = new AdamW(model.namedParameters(), { lr: 2e-2 });
      const losses = await trainedLosses(optimizer, 60, (step) => {
        model.dropoutSeeds.step = step;
        return model.loss(int(source), int(target), int(labels));
      });
      expect(losses.at(-1)).toBeLessThan(losses[0]! / 3);
      for (const training of [true, false]) {
        if (!training) model.eval();
        using decoder = model.decoderFor(int(source));
        const [generated] = await generateTokens(decoder, [[0]], { temperature: 0, maxTokens: 5 });
        expect([...generated!.tokens]).toEqual(labels);
        expect(model.training).toBe(training);
      }
    }
    await collectGarbage();
    expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
  });

  test("refuses input that does not fit", () => {
    using model = modelOf();
    scope(() => {
      const long = Array.from({ length: 10 }, () => 3);
      expectError(() => model.forward(int(long), int(target)), "ERR_SHAPE", /1 to 9 tokens, got 10/);
      expectError(() => model.forward(int(source), int(long)), "ERR_SHAPE");
      expectError(() => model.forward(int(source), int(target, target)), "ERR_SHAPE", /target of shape/);
      expectError(() => model.encode(int(source), { lengths: lengthsOf(1, 2) }), "ERR_SHAPE", /lengths/);
      expectError(() => model.encode(int(source), null!), "ERR_ARGUMENT");
      expectError(() => model.encode(tensor([[1]], [1, 1], { device }) as never), "ERR_DTYPE");
      using decoder = model.decoderFor(int(source, source));
      expectError(() => decoder.forward(int(target)), "ERR_SHAPE", /ids for 2 sources, got 1/);
    });
    expectError(() => (model.dtype = "f64" as never), "ERR_DTYPE");
  });
});

describe("configurations", () => {
  const small = {
    model_type: "t5",
    vocab_size: 32128,
    n_positions: 512,
    num_layers: 6,
    num_decoder_layers: null,
    num_heads: 8,
    d_kv: 64,
    d_model: 512,
    d_ff: 2048,
    relative_attention_num_buckets: 32,
    layer_norm_epsilon: 1e-6,
    dropout_rate: 0.1,
    pad_token_id: 0,
    eos_token_id: 1,
    decoder_start_token_id: 0,
  };

  test("of T5-small", () => {
    expect(fromHuggingFaceT5Config(small)).toEqual({
      vocabularySize: 32128,
      contextLength: 512,
      layers: 6,
      decoderLayers: 6,
      heads: 8,
      headSize: 64,
      width: 512,
      feedForwardWidth: 2048,
      buckets: 32,
      furthest: 128,
      eps: 1e-6,
      dropout: 0.1,
      gated: false,
      activation: "relu",
      tied: true,
      scaleOutput: true,
      startToken: 0,
      endToken: 1,
    });
  });

  test("of its successors", () => {
    const flan = { ...small, feed_forward_proj: "gated-gelu", tie_word_embeddings: false, num_decoder_layers: 8 };
    const expected = { gated: true, activation: "gelu" };
    expect(fromHuggingFaceT5Config(flan)).toMatchObject({ ...expected, tied: false, decoderLayers: 8 });
    expect(fromHuggingFaceT5Config({ ...small, model_type: "mt5" })).toMatchObject(expected);
    expect(fromHuggingFaceT5Config({ ...small, feed_forward_proj: "gated-silu" })).toMatchObject({
      activation: "silu",
    });
    expect(fromHuggingFaceT5Config({ ...small, feed_forward_proj: "gelu" })).toMatchObject({ activation: "geluErf" });
    const read = checkT5Config(fromHuggingFaceT5Config(flan));
    expect(fromHuggingFaceT5Config(toHuggingFaceT5Config(read))).toEqual(read);
  });

  test.each<[string, unknown]>([
    ["nothing", null],
    ["another model", { ...small, model_type: "bert" }],
    ["no heads", { ...small, num_heads: undefined }],
    ["an unknown feed-forward", { ...small, feed_forward_proj: "gated-relu6" }],
  ])("refuses %s", (_, json) => expectError(() => fromHuggingFaceT5Config(json), "ERR_FORMAT"));

  test.each<[Partial<T5Config>, "ERR_SHAPE" | "ERR_RANGE" | "ERR_ARGUMENT"]>([
    [{ layers: 0 }, "ERR_RANGE"],
    [{ heads: 3, headSize: undefined as never }, "ERR_SHAPE"],
    [{ headSize: 0 }, "ERR_RANGE"],
    [{ buckets: 2 }, "ERR_RANGE"],
    [{ buckets: 9 }, "ERR_SHAPE"],
    [{ furthest: 4 }, "ERR_RANGE"],
    [{ dropout: -1 }, "ERR_RANGE"],
    [{ startToken: V }, "ERR_RANGE"],
    [{ gated: 1 as never }, "ERR_ARGUMENT"],
    [{ activation: "step" as never }, "ERR_ARGUMENT"],
  ])("refuses %j", (change, code) => expectError(() => new T5({ ...base, ...change }, { device: "cpu" }), code));
});
