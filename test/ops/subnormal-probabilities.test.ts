/**
 * Probabilities below the smallest normal number, 2⁻¹²⁶, are zeros in softmax, attention and cross-entropy, and greater
 * ones keep their accuracy. References are in float64; no exact probability is so near to 2⁻¹²⁶ that rounding decides.
 */
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { attention, type AttentionOptions } from "../../lib/ops/attention.js";
import { mul } from "../../lib/ops/binary.js";
import { crossEntropy } from "../../lib/ops/cross-entropy.js";
import { linearAttention } from "../../lib/ops/linear-attention.js";
import { sum } from "../../lib/ops/reduce.js";
import { softmax } from "../../lib/ops/softmax.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectWithin, u } from "../support/close.js";
import { leastRoundoff, roundoff, roundTo } from "../support/dtypes.js";
import { productTargets, targets } from "../support/targets.js";

const least = 2 ** -126;
const dtypes: readonly FloatDType[] = ["f32", "bf16", "f16"];
/** The types that hold numbers as small as the smallest probabilities. */
const wideTypes: readonly FloatDType[] = ["f32", "bf16"];

/** Softmax in float64. */
function probabilitiesOf(scores: readonly number[]): number[] {
  const highest = Math.max(...scores);
  const exps = scores.map((score) => Math.exp(score - highest));
  const total = exps.reduce((a, b) => a + b, 0);
  return exps.map((e) => e / total);
}

/** Returns n multiples of ½ in [−lowest, 0], which all float types hold, with the only 0 at place `peak`. */
function scoresAround(n: number, peak: number, lowest = 110): number[] {
  return Array.from({ length: n }, (_, i) => (i === peak ? 0 : -0.5 * (1 + ((i * 37) % (2 * lowest)))));
}

/** Expects zeros where probabilities are below `least`, and `factor` times them where they are not. */
function expectProbabilities(
  label: string,
  got: ArrayLike<number>,
  probabilities: readonly number[],
  dtype: FloatDType,
  { factor = 1, relative = 40 * u + 2 * roundoff(dtype) } = {},
): void {
  const kept = probabilities.map((p) => (p < least ? 0 : factor * p));
  // The test would show nothing if it had neither, or one that rounding decides.
  expect(probabilities.filter((p) => p > 0 && p < least).length, label).toBeGreaterThan(0);
  expect(probabilities.filter((p) => p >= least && p < 2 ** -120).length, label).toBeGreaterThan(0);
  expect(
    probabilities.every((p) => Math.abs(p / least - 1) > 0.01),
    label,
  ).toBe(true);
  expectWithin(label, got, kept, (want) => (want === 0 ? 0 : relative * Math.abs(want) + 2 * leastRoundoff(dtype)));
}

describe.each(targets)("on $name", ({ select, device }) => {
  test("softmax", async () => {
    select();
    for (const dtype of dtypes)
      for (const [width, peak] of [
        [222, 221],
        [1500, 3],
        [9001, 9000],
      ] as const) {
        const scores = scoresAround(width, peak);
        using x = tensor(scores, [1, width], { device, dtype });
        using y = softmax(x);
        expectProbabilities(`${dtype}, ${width}`, await y.data(), probabilitiesOf(scores), dtype);
      }
  });

  test("gradients of softmax", async () => {
    select();
    const scores = scoresAround(222, 5);
    const probabilities = probabilitiesOf(scores);
    for (const dtype of wideTypes) {
      using x = tensor(scores, [1, scores.length], { device, dtype });
      x.requiresGrad = true;
      // The gradient of element i is p_i · (d_i − Σ p d). All d are 4 but that of the peak, so the factor is above 1.
      const weights = scores.map((score) => (score === 0 ? 0 : 4));
      scope(() => sum(mul(softmax(x), tensor(weights, [1, scores.length], { device, dtype }))).backward());
      const mean = probabilities.reduce((a, p, i) => a + p * weights[i]!, 0);
      const got = Array.from(await x.grad!.data());
      const others = <T>(values: readonly T[]): T[] => values.filter((_, i) => weights[i] !== 0);
      const relative = 100 * u + 16 * roundoff(dtype);
      expectProbabilities(dtype, others(got), others(probabilities), dtype, { factor: 4 - mean, relative });
    }
  });

  test("gradients of cross-entropy", async () => {
    select();
    for (const dtype of dtypes)
      for (const width of [222, 1500, 9001]) {
        const scores = scoresAround(width, 7);
        using x = tensor(scores, [1, width], { device, dtype });
        x.requiresGrad = true;
        using ids = tensor(Int32Array.of(7), [1], { device });
        scope(() => crossEntropy(x, ids).backward());
        const got = Array.from(await x.grad!.data());
        const others = <T>(values: readonly T[]): T[] => values.filter((_, i) => i !== 7);
        expectProbabilities(`${dtype}, ${width}`, others(got), others(probabilitiesOf(scores)), dtype);
      }
  });

  test("powers of a decay of linear attention", async () => {
    select();
    const length = 200;
    const one = (dtype: FloatDType) => tensor(new Float32Array(length).fill(1), [1, length, 1, 1], { device, dtype });
    for (const dtype of dtypes) {
      const out = noGrad(() =>
        scope(() => {
          const v = tensor(new Float32Array(length).with(0, 1), [1, length, 1, 1], { device, dtype });
          const decay = tensor([0.5], [1], { device });
          return linearAttention(one(dtype), one(dtype), v, { featureMap: "none", normalize: false, decay });
        }),
      );
      const powers = Array.from({ length }, (_, i) => (i > 126 ? 0 : 2 ** -i));
      expectWithin(
        dtype,
        await out.data(),
        powers,
        (want) => 200 * u * want + leastRoundoff(dtype) * (want > 0 ? 1 : 0),
      );
      out.dispose();
    }
  });

  test("f16 has its subnormal numbers", async () => {
    select();
    const tiny = [1, 2, 3, 5, 100, 1023].map((n) => n * 2 ** -24);
    const values = [...tiny, ...tiny.map((x) => -x), 0, 1];
    const D = values.length;
    const made = (data: readonly number[], shape: number[]): FloatTensor =>
      tensor(data, shape, { device, dtype: "f16" });
    using v = made(values, [1, 1, 1, D]);
    using q = made(Array<number>(D).fill(0.5), [1, 1, 1, D]);
    using out = noGrad(() => attention(q, q, v));
    expect(Array.from(await out.data())).toEqual(values);
    // e^−16 and others are below 2⁻¹⁴, the smallest normal f16.
    const scores = [0, -9, -11, -13, -16, -16.5];
    const probabilities = probabilitiesOf(scores);
    using y = scope(() => softmax(made(scores, [1, scores.length])));
    expectWithin("softmax", await y.data(), probabilities, (p) => 2 ** -11 * p + 2 ** -25);
    using x = made(scores, [1, scores.length]);
    x.requiresGrad = true;
    using ids = tensor(Int32Array.of(0), [1], { device });
    scope(() => crossEntropy(x, ids).backward());
    const gradient = probabilities.map((p, i) => (i === 0 ? p - 1 : p));
    expectWithin("cross-entropy", await x.grad!.data(), gradient, (p) => 2 ** -10 * Math.abs(p) + 2 ** -25);
  });
});

interface Layout {
  name: string;
  queries: number;
  keys: number;
  peak: number;
  options?: (device: string) => AttentionOptions;
  pageSize?: number;
}

const layouts: readonly Layout[] = [
  { name: "one query", queries: 1, keys: 300, peak: 299 },
  { name: "one query, the highest score first", queries: 1, keys: 300, peak: 0 },
  { name: "queries in tiles", queries: 40, keys: 300, peak: 290 },
  { name: "queries in tiles, the highest score first", queries: 40, keys: 70, peak: 1 },
  { name: "causal with a window", queries: 3, keys: 330, peak: 200, options: () => ({ causal: true, window: 300 }) },
  {
    name: "key lengths and pages",
    queries: 2,
    keys: 288,
    peak: 150,
    pageSize: 16,
    options: (device) => ({ keyLengths: tensor(Int32Array.of(279), [1], { device }) }),
  },
  {
    name: "blocks",
    queries: 20,
    keys: 256,
    peak: 130,
    options: (device) => ({ blocks: { mask: tensor(new Uint8Array(16).fill(1), [1, 1, 4, 4], { device }), size: 64 } }),
  },
];

const size = 64;

/** Returns which keys the last query of a layout sees. */
function seenByLast({ name, keys }: Layout): (key: number) => boolean {
  if (name.startsWith("causal")) return (key) => key > keys - 1 - 300;
  if (name.startsWith("key lengths")) return (key) => key < 279;
  return () => true;
}

/**
 * Returns q, k and v whose scores are the same for every query, and in whose output element d of head h is the
 * probability of key h · size + d: the heads have the same keys, and each key's value is 1 in one element.
 */
function readable({ queries, keys }: Layout, scores: readonly number[], dtype: FloatDType, device: string) {
  const heads = Math.ceil(keys / size);
  const q = new Float32Array(queries * heads * size);
  for (let row = 0; row < queries * heads; row++) q[row * size] = 1;
  const k = new Float32Array(keys * heads * size);
  const v = new Float32Array(keys * heads * size);
  scores.forEach((score, j) => {
    for (let h = 0; h < heads; h++) k[(j * heads + h) * size] = score;
    v[(j * heads + Math.floor(j / size)) * size + (j % size)] = 1;
  });
  const make = (data: Float32Array, rows: number): FloatTensor =>
    tensor(data, [1, rows, heads, size], { device, dtype });
  return { heads, q: make(q, queries), k: make(k, keys), v: make(v, keys) };
}

describe.each(productTargets)("attention on $name", ({ select, device }) => {
  test.each(layouts)("$name", async (layout) => {
    select();
    const { keys, peak, options, pageSize } = layout;
    const seen = seenByLast(layout);
    const scores = scoresAround(keys, peak);
    const shown = scores.map((score, j) => (seen(j) ? score : -Infinity));
    const probabilities = probabilitiesOf(shown);
    for (const dtype of dtypes) {
      const { heads, out } = scope(() => {
        const { heads, q, k, v } = readable(layout, scores, dtype, device);
        const pages = (x: FloatTensor): FloatTensor =>
          pageSize ? tensor(x.dataSync(), [keys / pageSize, pageSize, heads, size], { device, dtype }) : x;
        const table = pageSize
          ? {
              pages: tensor(
                Int32Array.from({ length: keys / pageSize }, (_, i) => i),
                [1, keys / pageSize],
                { device },
              ),
            }
          : {};
        const run = () => attention(q, pages(k), pages(v), { ...options?.(device), ...table, scale: 1 });
        return { heads, out: noGrad(run) };
      });
      const last = Array.from(await out.data()).slice(-heads * size, keys - heads * size || undefined);
      out.dispose();
      // Weights of 16 bits may be rounded before their product, as the output is. CUDA computes powers of 2, whose
      // exponent is rounded twice: an exponential of −87 changes by up to 2 · 87 roundings of its own.
      const exponent = device.startsWith("cuda") ? 2 * 87 : 0;
      const relative = (64 + exponent) * u + 3 * roundoff(dtype);
      expectProbabilities(dtype, last, probabilities, dtype, { relative });
    }
  });

  test("gradients", async () => {
    select();
    const keys = 222;
    const scores = scoresAround(keys, 100);
    const probabilities = probabilitiesOf(scores);
    for (const dtype of wideTypes) {
      const q = tensor([1, ...Array<number>(size - 1).fill(0)], [1, 1, 1, size], { device, dtype });
      const column = (values: readonly number[]): FloatTensor => {
        const data = new Float32Array(keys * size);
        values.forEach((value, j) => (data[j * size] = value));
        return tensor(data, [1, keys, 1, size], { device, dtype });
      };
      const k = column(scores);
      // dP is 1 for the peak and 4 for all others, so dS is p · (4 − δ) for these, and δ is less than 3.
      const values = scores.map((score) => (score === 0 ? 1 : 4));
      const v = column(values);
      for (const x of [q, k, v]) x.requiresGrad = true;
      scope(() => sum(attention(q, k, v, { scale: 1 })).backward());
      const [dk, dv] = await Promise.all([k.grad!.data(), v.grad!.data()]);
      const delta = roundTo(
        dtype,
        probabilities.reduce((a, p, j) => a + p * values[j]!, 0),
      );
      const columnOf = (x: Float32Array): number[] => scores.map((_, j) => x[j * size]!);
      const relative = 200 * u + 6 * roundoff(dtype);
      expectProbabilities(`dv, ${dtype}`, columnOf(dv), probabilities, dtype, { relative });
      const others = <T>(values: readonly T[]): T[] => values.filter((_, j) => scores[j] !== 0);
      expectProbabilities(`dk, ${dtype}`, others(columnOf(dk)), others(probabilities), dtype, {
        factor: 4 - delta,
        relative: 4 * relative,
      });
      for (const x of [q, k, v]) x.dispose();
    }
  });
});
