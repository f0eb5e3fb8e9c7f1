import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { score } from "../../lib/generate/score.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import type { EncoderDecoderConfig } from "../../lib/models/encoder-decoder-config.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { devices } from "../generate/models.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { logSoftmax } from "../support/functions.js";
import { collectGarbage } from "../support/gc.js";
import { Random } from "../support/random.js";
import { shaken } from "../support/shaken.js";
import { trainedLosses } from "../support/training.js";
import { encoderDecoderReference } from "./encoder-decoder-reference.js";
import { expectBatchIsItsPairs } from "./padded-batch.js";

const base: EncoderDecoderConfig = {
  sourceVocabularySize: 17,
  contextLength: 16,
  layers: 2,
  heads: 3,
  width: 18,
  feedForwardWidth: 31,
  startToken: 1,
  endToken: 2,
};
const variants: [string, Partial<EncoderDecoderConfig>][] = [
  ["the paper's", {}],
  ["tensor2tensor's", { norm: "pre", sinusoids: { layout: "halves", inclusive: true } }],
  [
    "OpenNMT's",
    {
      targetVocabularySize: 13,
      norm: "pre",
      tied: false,
      eps: 1e-6,
      sinusoids: { layout: "halves", inclusive: true, first: 1 },
    },
  ],
  ["Marian's", { activation: "silu", sinusoids: { layout: "halves" }, logitsBias: true, decoderLayers: 1 }],
  ["learned positions, two vocabularies of a size", { positions: "learned", shared: false, scaleEmbeddings: false }],
  [
    "no positions, no biases",
    { positions: "none", bias: false, activation: "geluErf", norm: "pre", finalNorms: false },
  ],
];
const source = [5, 3, 3, 11, 7, 16, 2];
const target = [1, 8, 12, 4, 4];
const labels = [8, 12, 4, 4, 2];

/** Runs without recording and frees all intermediate tensors. */
const run = (body: () => FloatTensor) => noGrad(() => scope(body));

const modelOf = (config: Partial<EncoderDecoderConfig>, device: string): EncoderDecoder =>
  shaken(new EncoderDecoder({ ...base, ...config }, { device }), {
    std: (name) => (/^(source|target)/.test(name) ? 0.25 : 0.3),
  });

async function weightsOf(model: EncoderDecoder): Promise<Record<string, Float64Array>> {
  const weights: Record<string, Float64Array> = {};
  for (const [name, weight] of model.namedParameters()) weights[name] = Float64Array.from(await weight.data());
  return weights;
}

describe.each(devices)("EncoderDecoder on %s", (device) => {
  const int = (...rows: readonly (readonly number[])[]): IntTensor =>
    tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]!.length], { device });
  const lengthsOf = (...lengths: number[]): IntTensor => tensor(Int32Array.from(lengths), [lengths.length], { device });

  test.each(variants)("%s: logits follow the equations", async (_, config) => {
    using model = modelOf(config, device);
    const logits = run(() => model.forward(int(source), int(target)));
    const expected = encoderDecoderReference(model.config, await weightsOf(model), source, target).flat();
    expectClose("logits", await logits.data(), expected, { relative: 0, absolute: 100 });
    logits.dispose();
  });

  test.each(variants)("%s: gradients are the derivatives of the equations", async (_, config) => {
    using model = modelOf(config, device);
    const loss = scope(() => model.loss(int(source), int(target), int(labels), { labelSmoothing: 0.1 }));
    loss.backward();
    const weights = await weightsOf(model);
    const V = model.config.targetVocabularySize;
    const lossOf = (): number =>
      encoderDecoderReference(model.config, weights, source, target)
        .map((logits, t) => {
          const log = logSoftmax(logits);
          return -0.9 * log[labels[t]!]! - (0.1 / V) * log.reduce((a, b) => a + b);
        })
        .reduce((a, b) => a + b) / target.length;
    expectClose("loss", [await loss.item()], [lossOf()], { relative: 32, absolute: 0 });
    loss.dispose();
    // In a random direction of each parameter, by a central difference of the reference in float64. The step is too
    // short to cross a ReLU's corner.
    const random = new Random(9);
    const [step, got, expected] = [1e-7, [] as number[], [] as number[]];
    for (const [name, parameter] of model.namedParameters()) {
      const values = weights[name]!;
      const direction = values.map(() => random.normal());
      const moved = (by: number): number => {
        weights[name] = values.map((value, i) => value + by * direction[i]!);
        return lossOf();
      };
      expected.push((moved(step) - moved(-step)) / (2 * step));
      weights[name] = values;
      const gradient = await parameter.grad!.data();
      got.push(gradient.reduce((sum, value, i) => sum + value * direction[i]!, 0));
    }
    const scale = Math.max(...expected.map(Math.abs));
    for (const [i, [name]] of [...model.namedParameters()].entries())
      expect(Math.abs(got[i]! - expected[i]!), name).toBeLessThan(1e-5 * scale + 1e-5 * Math.abs(expected[i]!));
  });

  test.each(variants)("%s: a cache gives the same results as the whole sequence", async (_, config) => {
    using model = modelOf(config, device);
    const V = model.config.targetVocabularySize;
    const sources = [source, [4, 9, 6, 0, 0, 0, 0]];
    const whole = run(() => model.forward(int(...sources), int(target, target), { sourceLengths: lengthsOf(7, 3) }));
    const expected = await whole.data();
    whole.dispose();
    using decoder = model.decoderFor(int(...sources), { lengths: lengthsOf(7, 3) });
    using cache = decoder.createCache(2, 8);
    const expectRow = (label: string, got: Float32Array, row: number, t: number): void =>
      expectClose(label, got.slice(row * V, (row + 1) * V), expected.slice((row * 5 + t) * V, (row * 5 + t + 1) * V), {
        relative: 0,
        absolute: 100,
      });
    // Two tokens and one token of the target, padded, then step by step.
    let logits = run(() => decoder.forward(int([1, 8], [1, 0]), { cache, counts: [2, 1], lastOnly: true }));
    for (let step = 0; ; step++) {
      const got = await logits.data();
      logits.dispose();
      expectRow(`first, step ${step}`, got, 0, step + 1);
      expectRow(`second, step ${step}`, got, 1, step);
      if (step === 3) break;
      logits = run(() => decoder.forward(int([target[step + 2]!], [target[step + 1]!]), { cache, lastOnly: true }));
    }
  });

  test.each(variants)("%s: a padded batch equals its sequences one by one, forward and backward", async (_, config) => {
    using model = modelOf(config, device);
    const pairs = [
      { source, target, labels },
      { source: [4, 9, 6], target: [1, 8], labels: [3, 2] },
      { source: [7], target: [1, 5, 6, 6], labels: [5, 6, 6, 2] },
    ];
    await expectBatchIsItsPairs(model, pairs, { relative: 0, absolute: 300 });
  });

  test("generation continues from each source, in caches that shrink, that slide and with several targets per source", async () => {
    using model = modelOf({ tied: false, contextLength: 6, suppressedTokens: [0, 1] }, device);
    const sources = [
      [5, 3],
      [9, 11],
      [2, 14],
      [6, 6],
      [8, 16],
    ];
    const settings = { temperature: 0, maxTokens: 14, stopTokens: [4, 8, 9], seed: 1, overflow: "slide" } as const;
    const together = async (rows: number[][], each: number) => {
      using decoder = model.decoderFor(int(...rows));
      const starts = Array.from({ length: rows.length * each }, () => [1]);
      return (await generateTokens(decoder, starts, settings)).map(({ tokens }) => tokens);
    };
    const all = await together(sources, 1);
    const alone: number[][] = [];
    for (const row of sources) alone.push(...(await together([row], 1)));
    expect(all).toEqual(alone);
    expect(await together(sources, 2)).toEqual(alone.flatMap((tokens) => [tokens, tokens]));
    // Most sequences ended early, so that the others moved; some went beyond the context; their outputs differ.
    const lengths = alone.map(({ length }) => length).sort((a, b) => a - b);
    expect(lengths[2]).toBeLessThan(3);
    expect(lengths[4]).toBeGreaterThan(6);
    expect(new Set(alone.map(String)).size).toBeGreaterThan(3);
    expect(alone.flat().filter((token) => token < 2)).toEqual([]);
  });

  test("a target's score follows from its logits", async () => {
    using model = modelOf({}, device);
    using decoder = model.decoderFor(int(source));
    const { logProbabilities } = await score(decoder, [...target, 2]);
    const logits = encoderDecoderReference(model.config, await weightsOf(model), source, target);
    const expected = logits.map((row, t) => logSoftmax(row)[labels[t]!]!);
    for (const [t, value] of expected.entries()) expect(logProbabilities[t]).toBeCloseTo(value, 4);
  });

  test("inference has no dropout and leaves training as it was; nothing stays in memory", async () => {
    await collectGarbage();
    const { live, tensors } = deviceOf(device).memory();
    {
      using model = modelOf({ dropout: 0.5, attentionDropout: 0.5, suppressedTokens: [0] }, device);
      const settings = { temperature: 0, maxTokens: 4 };
      const results: number[][] = [];
      for (const training of [true, false]) {
        if (training) model.train();
        else model.eval();
        using decoder = model.decoderFor(int(source));
        results.push(...(await generateTokens(decoder, [[1]], settings)).map(({ tokens }) => tokens));
        expect(model.training).toBe(training);
        expect(decoder.sources).toBe(1);
      }
      expect(results[0]).toEqual(results[1]);
      model.train();
      const noisy = scope(() => model.loss(int(source), int(target), int(labels)));
      const other = scope(() => model.loss(int(source), int(target), int(labels)));
      expect(await noisy.item()).not.toBe(await other.item());
      noisy.backward();
      for (const t of [noisy, other]) t.dispose();
    }
    await collectGarbage();
    expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
  });

  test.each(["bf16", "f16"] as const)("%s beside parameters of f32, and alone", async (dtype) => {
    using model = modelOf({ norm: "pre", logitsBias: true, suppressedTokens: [0] }, device);
    const exact = run(() => model.forward(int(source), int(target)));
    const expected = await exact.data();
    exact.dispose();
    const scale = Math.max(...Array.from(expected, Math.abs));
    const expectNear = async (): Promise<void> => {
      const logits = run(() => model.forward(int(source), int(target)));
      expect(logits.dtype).toBe(dtype);
      const got = await logits.data();
      logits.dispose();
      const worst = Math.max(...Array.from(got, (value, i) => Math.abs(value - expected[i]!)));
      expect(worst).toBeLessThan((dtype === "bf16" ? 0.05 : 0.01) * scale);
      expect(worst).toBeGreaterThan(0);
      using decoder = model.decoderFor(int(source));
      const generated = await generateTokens(decoder, [[1]], { temperature: 0, maxTokens: 3 });
      expect(generated[0]!.tokens.length).toBe(3);
    };
    model.dtype = dtype;
    await expectNear();
    const loss = scope(() => model.loss(int(source), int(target), int(labels)));
    loss.backward();
    for (const { grad } of model.parameters()) expect(grad!.dtype).toBe("f32");
    loss.dispose();
    model.zeroGrad();
    model.to(dtype);
    await expectNear();
  });

  test("learns", async () => {
    using model = new EncoderDecoder(base, { device, seed: 1 });
    using optimizer = new AdamW(model.namedParameters(), { lr: 1e-2 });
    const losses = await trainedLosses(optimizer, 20, () => model.loss(int(source), int(target), int(labels)));
    expect(losses.at(-1)).toBeLessThan(losses[0]! / 10);
  });

  test("refuses input that does not fit", () => {
    const refused: [Partial<EncoderDecoderConfig>, string][] = [
      [{ layers: 0 }, "ERR_RANGE"],
      [{ decoderLayers: 1.5 }, "ERR_RANGE"],
      [{ width: 20 }, "ERR_SHAPE"],
      [{ width: 15 }, "ERR_SHAPE"],
      [{ shared: true, targetVocabularySize: 5 }, "ERR_SHAPE"],
      [{ startToken: 17 }, "ERR_RANGE"],
      [{ endToken: -1 }, "ERR_RANGE"],
      [{ suppressedTokens: [17] }, "ERR_RANGE"],
      [{ suppressedTokens: 3 as never }, "ERR_ARGUMENT"],
      [{ dropout: 2 }, "ERR_RANGE"],
      [{ attentionDropout: NaN }, "ERR_RANGE"],
      [{ norm: "none" as never }, "ERR_ARGUMENT"],
      [{ positions: "rotary" as never }, "ERR_ARGUMENT"],
      [{ activation: "step" as never }, "ERR_ARGUMENT"],
      [{ tied: 1 as never }, "ERR_ARGUMENT"],
      [{ finalNorms: "no" as never }, "ERR_ARGUMENT"],
      [{ sinusoids: { layout: "mixed" as never } }, "ERR_ARGUMENT"],
      [{ sinusoids: { inclusive: 1 as never } }, "ERR_ARGUMENT"],
      [{ sinusoids: { first: -1 } }, "ERR_RANGE"],
    ];
    for (const [config, code] of refused)
      expectError(() => new EncoderDecoder({ ...base, ...config }, { device }), code as never);
    using model = new EncoderDecoder(base, { device });
    const long = Array.from({ length: 17 }, () => 3);
    expectError(() => model.forward(int(long), int(target)), "ERR_SHAPE");
    expectError(() => model.forward(int(source), int(long)), "ERR_SHAPE");
    expectError(() => model.forward(int(source), int(target, target)), "ERR_SHAPE");
    expectError(() => model.forward(int(source), int(target), { targetLengths: lengthsOf(1, 2) }), "ERR_SHAPE");
    expectError(() => model.encode(int(source), { lengths: lengthsOf(1, 2) }), "ERR_SHAPE");
    expectError(() => model.encode(tensor([[1]], [1, 1], { device }) as never), "ERR_DTYPE");
    expectError(() => model.encode(int(source), null as never), "ERR_ARGUMENT");
    expectError(() => new EncoderDecoder(base, { device, dtype: "i32" as never }), "ERR_DTYPE");
    expectError(() => void (model.dtype = "f64" as never), "ERR_DTYPE");
    using decoder = model.decoderFor(int(source, source));
    expectError(() => decoder.createCache(0), "ERR_RANGE");
    expectError(() => decoder.createCache(2, 17), "ERR_RANGE");
    expectError(() => decoder.forward(int([1])), "ERR_SHAPE");
    expectError(() => decoder.createCache(3), "ERR_SHAPE");
  });
});
