import { afterAll, expect, test } from "vitest";
import { noGrad, parameter } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { native } from "../../lib/core/native.js";
import type { Activation } from "../../lib/ops/activation.js";
import {
  activationBits,
  dequantize,
  emptyQuantized,
  groupSizes,
  quantize,
  quantizedBits,
  quantizedEmbedding,
  quantizedLinear,
  type QuantizedTensors,
  quantizePart,
  rowsTogether,
} from "../../lib/ops/quantize.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow, reshape } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { roundoff, roundTo } from "../support/dtypes.js";
import { expectError } from "../support/errors.js";
import { byActivation } from "../support/functions.js";
import { map, type Nd, normal, transpose } from "../support/nd.js";
import { Random } from "../support/random.js";
import { bestIsa, devicesTested, isHere, productTargets } from "../support/targets.js";

const random = new Random(12);
const dtypes = ["f32", "bf16", "f16"] as const;

afterAll(() => native.selectIsa(bestIsa));

const of = (x: Nd, device: string, dtype: FloatDType = "f32"): FloatTensor =>
  tensor(x.data, x.shape, { device, dtype });

function free({ codes, scales }: QuantizedTensors): void {
  codes.dispose();
  scales.dispose();
}

/**
 * Returns the scale of weight [o, i]. Scales are laid out in panels of 16 outputs, then groups of inputs, then 16
 * outputs.
 */
function scaleAt(scales: Float32Array, groups: number, groupSize: number, o: number, i: number): number {
  return scales[(Math.floor(o / 16) * groups + Math.floor(i / groupSize)) * 16 + (o % 16)]!;
}

test("no weight is further than half a step from its code, and every device has the same codes", async () => {
  for (const bits of quantizedBits)
    for (const [outputs, inputs, groupSize] of [
      [1, 1, 32],
      [17, 31, 32],
      [33, 70, 64],
      [16, 300, 128],
      [5, 256, 256],
    ] as const) {
      const weight = normal(random, [outputs, inputs]);
      let first: Uint8Array | null = null;
      for (const { device, select } of productTargets.filter(isHere)) {
        select();
        for (const layout of ["oi", "io"] as const) {
          using w = of(layout === "oi" ? weight : transpose(weight), device);
          const quantized = quantize(w, { bits, groupSize, layout });
          using back = dequantize(quantized);
          expect(back.shape).toEqual([outputs, inputs]);
          const [codes, scales, values] = [
            await quantized.codes.data(),
            await quantized.scales.data(),
            await back.data(),
          ];
          first ??= codes;
          expect(codes).toEqual(first);
          const groups = Math.ceil(inputs / groupSize);
          let worst = 0; // in steps
          for (let at = 0; at < values.length; at++) {
            const scale = Math.abs(scaleAt(scales, groups, groupSize, Math.floor(at / inputs), at % inputs));
            worst = Math.max(worst, Math.abs(values[at]! - weight.data[at]!) / scale);
          }
          // The quotient is rounded to f32 before it is rounded to a code.
          expect(worst).toBeLessThanOrEqual(0.5 + 128 * 2 ** -24);
          free(quantized);
        }
      }
    }
});

/** Returns a scale by its definition, from the largest weights above and below 0. */
function exactScale(bits: number, high: number, low: number): number {
  const over = (x: number, by: number): number => Math.fround(x / by);
  let scale = bits === 8 ? over(Math.max(high, low), 127) : 0;
  if (bits === 4) scale = low >= high ? Math.max(over(low, 8), over(high, 7)) : -Math.max(over(high, 8), over(low, 7));
  if (Math.max(high, low) > 0 && Math.abs(scale) < 2 ** -126) scale = (scale < 0 ? -1 : 1) * 2 ** -126;
  return roundTo("bf16", scale);
}

test.for(productTargets)("weights of any size, and those that are not finite, on $name", async ({ select, device }) => {
  select();
  // Groups of zeros, of numbers near both ends of f32, and with the largest number of either sign. Beyond 3.2e38 the
  // code -8 may stand for more than the largest f32.
  const sizes = [0, 2 ** -149, 2 ** -130, 2 ** -120, 2 ** 127, 3e38, 1, -1];
  const weight = Float32Array.from(
    { length: 8 * 32 },
    (_, i) => sizes[i >> 5]! * (i % 5 ? 2 * random.uniform() - 1 : 1),
  );
  for (const bits of quantizedBits) {
    using w = tensor(weight, [8, 32], { device });
    const quantized = quantize(w, { bits });
    using back = dequantize(quantized);
    const [scales, values] = [await quantized.scales.data(), await back.data()];
    for (let o = 0; o < 8; o++) {
      const row = weight.subarray(o * 32, (o + 1) * 32);
      const scale = exactScale(bits, Math.max(0, ...row), Math.max(0, ...row.map((x) => -x)));
      expect(scaleAt(scales, 1, 32, o, 0), `scale of ${sizes[o]} in ${bits} bits`).toBe(scale);
      for (const [i, x] of row.entries())
        expect(Math.abs(values[o * 32 + i]! - x)).toBeLessThanOrEqual(Math.abs(scale) * (0.5 + 128 * 2 ** -24));
    }
    free(quantized);
    // A group with a weight that is not finite is NaN; its neighbours are not.
    for (const dtype of dtypes)
      for (const bad of [Infinity, -Infinity, NaN]) {
        using ones = tensor(new Float32Array(128).fill(1).with(64 + 40, bad), [2, 64], { device, dtype });
        const spoilt = quantize(ones, { bits });
        using read = dequantize(spoilt);
        const got = await read.data();
        expect([...got].map(Number.isNaN)).toEqual([...got.keys()].map((i) => i >= 96));
        free(spoilt);
      }
  }
});

test.for(devicesTested)("a weight in parts has the codes of the whole on $name", async ({ device }) => {
  for (const bits of quantizedBits)
    for (const [outputs, inputs, groupSize] of [
      [1, 1, 32],
      [49, 31, 32],
      [33, 300, 64],
      [48, 256, 128],
      [20, 700, 256],
    ] as const)
      for (const layout of ["oi", "io"] as const) {
        const [all, width] = layout === "oi" ? [outputs, inputs] : [inputs, outputs];
        using weight = of(normal(random, [all, width]), device);
        const whole = quantize(weight, { bits, groupSize, layout });
        const parts = emptyQuantized({ inputs, outputs, device: weight.device }, { bits, groupSize });
        const step = 2 * rowsTogether(parts, layout);
        for (let first = 0; first < all; first += step) {
          using rows = narrow(weight, 0, first, Math.min(step, all - first));
          quantizePart(parts, rows, layout, first);
        }
        expect(await parts.codes.data()).toEqual(await whole.codes.data());
        expect(await parts.scales.data()).toEqual(await whole.scales.data());
        for (const quantized of [whole, parts]) free(quantized);
      }
});

interface Product {
  rows: number[];
  outputs: number;
  options?: { bias?: boolean; residual?: boolean; activation?: Activation };
  groupSize?: QuantizeGroup;
}

type QuantizeGroup = (typeof groupSizes)[number];

const products: Product[] = [
  ...[1, 2, 3, 5, 8, 9, 33].map((rows) => ({ rows: [rows, 33], outputs: 33 })),
  { rows: [1], outputs: 1 },
  { rows: [2, 3, 70], outputs: 17, options: { bias: true, residual: true, activation: "gelu" } },
  { rows: [2, 8, 40], outputs: 20, options: { bias: true, residual: true, activation: "silu" } },
  { rows: [0, 5], outputs: 3 },
  { rows: [3, 64], outputs: 16, options: { activation: "relu" } },
  { rows: [4, 31], outputs: 17, options: { bias: true, activation: "geluErf" } },
  { rows: [7, 100], outputs: 16, options: { activation: "sigmoid" } },
  ...[64, 128, 256].map((groupSize) => ({ rows: [6, 300], outputs: 40, groupSize: groupSize as QuantizeGroup })),
  { rows: [200, 520], outputs: 20 }, // blocks of rows
];

/**
 * The allowed error of a sum of K products is that of sums in f32, K · 2⁻²⁴ · Σ|x w|. If a kernel cuts activations into
 * bytes, half a step of each is added, and a hundredth more: of the largest in their group, 2⁻²³ in 24 bits, 2⁻¹⁵ in 16
 * and 1/254 in 8. On CUDA weights are rounded to the activations' dtype.
 */
test.for(productTargets)("products of quantised weights on $name", async ({ select, device }) => {
  select();
  for (const { rows, outputs, options = {}, groupSize = 32 } of products)
    for (const bits of quantizedBits)
      for (const [i, dtype] of [...dtypes, ...dtypes, ...dtypes].entries()) {
        const activations = activationBits[Math.floor(i / dtypes.length)]!;
        const inputs = rows.at(-1)!;
        const round = (x: Nd): Nd => map(x, (value) => roundTo(dtype, value));
        const shape = [...rows.slice(0, -1), outputs];
        const x = round(normal(random, rows));
        const bias = options.bias ? round(normal(random, [outputs])) : null;
        const residual = options.residual ? round(normal(random, shape)) : null;
        const activation = options.activation ?? "none";
        using w = of(normal(random, [outputs, inputs]), device);
        const weight = quantize(w, { bits, groupSize });
        using back = dequantize(weight);
        const values = await back.data();
        using a = of(x, device, dtype);
        using b = bias && of(bias, device, dtype);
        using r = residual && of(residual, device, dtype);
        using out = noGrad(() => quantizedLinear(a, weight, { bias: b, residual: r, activation, activations }));
        expect(out.shape).toEqual(shape);
        expect(out.dtype).toBe(dtype);
        const count = out.size / outputs;
        const expected = new Float64Array(out.size);
        const allowed = new Float64Array(out.size);
        for (let at = 0; at < out.size; at++) {
          const [m, o] = [Math.floor(at / outputs), at % outputs];
          let [total, size, cut] = [bias ? bias.data[o]! : 0, bias ? Math.abs(bias.data[o]!) : 0, 0];
          for (let g = 0; g < inputs; g += groupSize) {
            let [largest, weights] = [0, 0];
            for (let i = g; i < Math.min(g + groupSize, inputs); i++) {
              const [value, factor] = [x.data[m * inputs + i]!, values[o * inputs + i]!];
              total += value * factor;
              size += Math.abs(value * factor);
              largest = Math.max(largest, Math.abs(value));
              weights += Math.abs(factor);
            }
            cut += largest * weights;
          }
          const value = byActivation[activation](total) + (residual ? residual.data[at]! : 0);
          const weights = device === "cpu" ? 0 : roundoff(dtype);
          const step = activations === 8 ? 1 / 254 : dtype === "f32" && activations === 24 ? 2 ** -23 : 2 ** -15;
          const sums = ((inputs + 8) * 2 ** -24 + weights) * size + 1.01 * cut * step;
          // An activation's slope is at most 1.13; its own error is 2.5e-6 (activation_test.cc).
          const rest = activation === "none" ? 0 : 2.5e-6 * Math.abs(value) + 1e-6;
          expected[at] = value;
          allowed[at] = 1.13 * sums + rest + 1.01 * roundoff(dtype) * (Math.abs(value) + sums);
        }
        const got = await out.data();
        for (let at = 0; at < got.length; at++)
          expect(
            Math.abs(got[at]! - expected[at]!),
            `${at} of ${count} rows in ${dtype}, ${bits} bits`,
          ).toBeLessThanOrEqual(allowed[at]!);
        free(weight);
      }
});

test.for(productTargets)("activations of any size, and those that are not finite, on $name", async (target) => {
  target.select();
  const { device } = target;
  for (const bits of quantizedBits) {
    using w = of(normal(random, [16, 32]), device);
    const weight = quantize(w, { bits });
    using back = dequantize(weight);
    const factors = await back.data();
    for (const size of [2 ** -140, 2 ** -110, 2 ** -100, 2 ** -90, 2 ** 100, 2 ** 120]) {
      const x = Float32Array.from({ length: 32 }, () => size * (2 * random.uniform() - 1));
      using a = tensor(x, [1, 32], { device });
      using out = noGrad(() => quantizedLinear(a, weight, { activations: 24 }));
      for (const [o, got] of (await out.data()).entries()) {
        let [exact, terms, weights] = [0, 0, 0];
        for (const [i, value] of x.entries()) {
          const factor = factors[o * 32 + i]!;
          exact += value * factor;
          terms += Math.abs(value * factor);
          weights += Math.abs(factor);
        }
        const largest = Math.max(...x.map(Math.abs));
        // Sums in f32; half a step of at least 2^-117 if bytes are cut; and half of the smallest number for each term.
        const allowed =
          40 * 2 ** -24 * terms + Math.max(1.01 * 2 ** -23 * largest, 2 ** -118) * weights + 32 * 2 ** -150;
        expect(Math.abs(got - exact), `${bits} bits, size ${size}`).toBeLessThanOrEqual(allowed);
      }
    }
    free(weight);
    // A row with a number that is not finite has no finite result; the other rows have finite results.
    using ones = tensor(new Float32Array(800).fill(1), [20, 40], { device });
    const flat = quantize(ones, { bits });
    for (const dtype of dtypes)
      for (const bad of [Infinity, -Infinity, NaN]) {
        using a = tensor(new Float32Array(120).fill(1).with(79, bad), [3, 40], { device, dtype });
        using out = noGrad(() => quantizedLinear(a, flat));
        for (const [i, got] of (await out.data()).entries())
          if (i >= 20 && i < 40) expect(Number.isFinite(got)).toBe(false);
          else expect(Math.abs(got - 40)).toBeLessThan(1);
      }
    free(flat);
  }
});

test.for(productTargets)("rows of a quantised table on $name", async ({ select, device }) => {
  select();
  for (const bits of quantizedBits)
    for (const dtype of dtypes) {
      using table = of(normal(random, [21, 37]), device);
      const quantized = quantize(table, { bits });
      using all = dequantize(quantized);
      const values = await all.data();
      using ids = tensor(Int32Array.of(20, 0, 7, 7, 16, 3), [2, 3], { device });
      using out = quantizedEmbedding(ids, quantized, { dtype });
      expect(out.shape).toEqual([2, 3, 37]);
      const expected = [20, 0, 7, 7, 16, 3].flatMap((id) => [...values.subarray(id * 37, id * 37 + 37)]);
      expect([...(await out.data())]).toEqual(expected.map((value) => roundTo(dtype, value)));
      for (const id of [21, -1]) {
        using bad = tensor(Int32Array.of(0, id), [2], { device });
        using rows = quantizedEmbedding(bad, quantized);
        await expect(rows.data()).rejects.toMatchObject({ code: "ERR_RANGE" });
      }
      free(quantized);
    }
});

test.for(devicesTested)("nothing is left behind on $name", ({ select, device }) => {
  select();
  const before = deviceOf(device).memory();
  {
    using w = zeros([20, 40], { device });
    const weight = quantize(w);
    using x = parameter(zeros([3, 40], { device }));
    for (const uses of [true, false]) {
      using out = quantizedLinear(x, weight, { activation: "gelu" });
      using loss = sum(out);
      if (uses) loss.backward();
    }
    free(weight);
  }
  const { live, tensors } = deviceOf(device).memory();
  expect([live, tensors]).toEqual([before.live, before.tensors]);
});

test("tensors that cannot be quantised or multiplied throw", () => {
  using w = zeros([20, 40]);
  using flat = zeros([40]);
  using ids = zeros([2], { dtype: "i32" });
  using x = zeros([3, 41]);
  using wide = zeros([3, 40], { dtype: "bf16" });
  using bias = zeros([21]);
  const weight = quantize(w, { bits: 4, groupSize: groupSizes[1] });
  expectError(() => quantize(w, { bits: 5 as never }), "ERR_ARGUMENT", /expected bits to be 8 or 4, got 5/);
  expectError(
    () => quantize(w, { groupSize: 48 as never }),
    "ERR_ARGUMENT",
    /groupSize to be 32, 64, 128 or 256, got 48/,
  );
  expectError(() => quantize(w, { layout: "x" as never }), "ERR_ARGUMENT", /expected layout to be oi or io, got "x"/);
  expectError(() => quantize(flat), "ERR_SHAPE", /expected weight of shape \[\*, \*\], got \[40\]/);
  expectError(() => quantize(ids as never), "ERR_DTYPE", /floating dtype/);
  expectError(() => quantizedLinear(x, weight), "ERR_SHAPE", /expected x of shape \[\.\.\., 40\], got \[3, 41\]/);
  expectError(() => quantizedLinear(x, w as never), "ERR_ARGUMENT", /expected weight.codes to be a tensor/);
  expectError(() => quantizedLinear(wide, weight, { bias }), "ERR_SHAPE", /expected bias of shape \[20\]/);
  expectError(() => quantizedEmbedding(x as never, weight), "ERR_DTYPE", /expected ids of dtype i32/);
  expectError(() => dequantize(weight, { dtype: "i32" as never }), "ERR_DTYPE", /expected out of dtype/);
  for (const [name, bytes] of [
    ["codes", 16],
    ["scales", 8],
  ] as const) {
    const { shape, dtype, size } = weight[name];
    const shifted = scope(() => reshape(narrow(zeros([size + 1], { dtype }), 0, 1, size), shape));
    const message = new RegExp(`expected ${name} to begin at a multiple of ${bytes} bytes`);
    expectError(() => dequantize({ ...weight, [name]: shifted }), "ERR_ARGUMENT", message);
    shifted.dispose();
  }
  free(weight);
});
