/**
 * Weights in the blocks of GGUF files: every format against its formula in float64, on every instruction set and on
 * CUDA, and products with them against sums in float64.
 */
import { afterAll, describe, expect, test } from "vitest";
import { noGrad, parameter } from "../../lib/core/autograd.js";
import { type BlockFormat, blockFormats } from "../../lib/core/block-formats.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { native, ops } from "../../lib/core/native.js";
import {
  type ActivationBits,
  activationBits,
  type BlockTensors,
  dequantize,
  quantizedEmbedding,
  quantizedLinear,
} from "../../lib/ops/quantize.js";
import { quantizedLinearCrossEntropy } from "../../lib/ops/quantized-cross-entropy.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow } from "../../lib/ops/views.js";
import { allocate, type FloatTensor } from "../../lib/core/tensor.js";
import { awkwardHalf, blocks, halfBits } from "../formats/gguf-blocks.js";
import { leastRoundoff, roundoff, roundTo } from "../support/dtypes.js";
import { expectError, expectRejection } from "../support/errors.js";
import { Random } from "../support/random.js";
import { oneDevice, testUnless } from "../support/skip.js";
import { bestIsa, devicesTested, productTargets } from "../support/targets.js";

afterAll(() => native.selectIsa(bestIsa));

const dtypes = ["f32", "bf16", "f16"] as const;

/** A weight in blocks, with the numbers that its formula gives, rounded to f32: [outputs, inputs]. */
interface Made {
  format: BlockFormat;
  outputs: number;
  inputs: number;
  bytes: Uint8Array;
  values: Float32Array;
}

function make(
  format: BlockFormat,
  outputs: number,
  inputs: number,
  half?: (random: Random) => number,
  draw?: Random,
): Made {
  const { type, numbers, random } = blocks.find(({ name }) => name === format)!;
  const generator = draw ?? new Random(100 * type + outputs);
  const made = Array.from({ length: (outputs * inputs) / numbers }, () => random(generator, half));
  return {
    ...{ format, outputs, inputs },
    bytes: Buffer.concat(made.map(({ bytes }) => bytes)),
    values: Float32Array.from(made.flatMap(({ values }) => values)),
  };
}

function weightOn(device: string, { format, outputs, inputs, bytes }: Made): BlockTensors & Disposable {
  const stored = tensor(bytes, [outputs, bytes.length / outputs], { device, dtype: "u8" });
  return { blocks: stored, format, outputs, inputs, [Symbol.dispose]: () => stored.dispose() };
}

/** Draws the same number always, so that integers are the least or the largest. */
class Constant extends Random {
  constructor(readonly value: number) {
    super(0);
  }

  override uniform(): number {
    return this.value;
  }
}

const same = (a: number, b: number): boolean => a === b || (Number.isNaN(a) && Number.isNaN(b));

const formats = Object.keys(blockFormats) as BlockFormat[];
/** A size that ends within the 256 numbers that kernels decode together, where the format allows it. */
const inputsOf = (format: BlockFormat): number => (blockFormats[format].numbers === 32 ? 256 + 96 : 512);
/** Scales that do not make products overflow in f16. */
const small = (random: Random): number => halfBits(random.normal() / 256);
const smallFor = (format: BlockFormat) => (format === "MXFP4" ? () => 119 : small);

/** Half a step of activations in so many bits, as a part of the largest of the 32 that share it. */
function halfStep(activations: ActivationBits, dtype: FloatDType): number {
  if (activations === 8) return 1 / 254;
  return activations === 24 && dtype === "f32" ? 2 ** -23 : 2 ** -15;
}

/** Returns an element in float64, and its error if activations are rounded to steps and sums as often as they can be. */
function product(made: Made, x: Float32Array, row: number, output: number, step: number) {
  let [exact, size, cut] = [0, 0, 0];
  for (let part = 0; part < made.inputs; part += 32) {
    let [largest, weights] = [0, 0];
    for (let k = part; k < Math.min(part + 32, made.inputs); k++) {
      const [input, weight] = [x[row * made.inputs + k]!, made.values[output * made.inputs + k]!];
      exact += input * weight;
      size += Math.abs(input * weight);
      largest = Math.max(largest, Math.abs(input));
      weights += Math.abs(weight);
    }
    cut += largest * weights * step;
  }
  return { exact, bound: made.inputs * 2 ** -24 * size + 1.01 * cut };
}

describe.each(productTargets)("on $name", ({ device, select }) => {
  test("numbers are those of the formulas, whatever the scales, and so are rows of a table", async () => {
    select();
    for (const format of formats) {
      const made = make(format, 5, inputsOf(format), awkwardHalf);
      using weight = weightOn(device, made);
      for (const dtype of dtypes) {
        using all = dequantize(weight, { dtype });
        const values = await all.data();
        // Zeros of both signs are equal here; -0 times a scale of 0 is one of them.
        const wrong = made.values.findIndex((x, i) => !same(roundTo(dtype, x), values[i]!));
        expect(wrong, `${format}, ${dtype}: ${values[wrong]} for ${made.values[wrong]}`).toBe(-1);
      }
      using ids = tensor(Int32Array.of(4, 0, 4), [3, 1], { device, dtype: "i32" });
      using rows = quantizedEmbedding(ids, weight);
      expect(rows.shape).toEqual([3, 1, made.inputs]);
      const row = (i: number) => made.values.subarray(i * made.inputs, (i + 1) * made.inputs);
      const gathered = await rows.data();
      const expected = [...row(4), ...row(0), ...row(4)];
      expect(
        expected.findIndex((x, i) => !same(x, gathered[i]!)),
        format,
      ).toBe(-1);
    }
  });

  test("products are sums of the numbers' products, and a row's bits do not depend on the rows beside it", async () => {
    select();
    // On the software device, a format has one dtype. Rows beyond 8 take another way there; 70 are more than a task has.
    const rows = device === "cpu" ? 70 : 9;
    for (const [i, format] of formats.entries()) {
      const made = make(format, 21, inputsOf(format), smallFor(format));
      using weight = weightOn(device, made);
      for (const dtype of device === "cpu" && format === "Q4_K" ? dtypes : [dtypes[i % 3]!])
        for (const activations of device === "cpu" ? activationBits : [24 as const]) {
          const random = new Random(i);
          const x = Float32Array.from({ length: rows * made.inputs }, () => roundTo(dtype, random.normal()));
          using input = tensor(x, [rows, made.inputs], { device, dtype });
          using out = noGrad(() => quantizedLinear(input, weight, { activations }));
          const y = await out.data();
          const what = `${format}, ${dtype}, ${activations} bits`;
          for (let r = 0; r < rows; r += 3)
            for (let n = 0; n < made.outputs; n++) {
              const { exact, bound } = product(made, x, r, n, halfStep(activations, dtype));
              const allowed = bound + roundoff(dtype) * Math.abs(exact) + leastRoundoff(dtype);
              expect(Math.abs(y[r * made.outputs + n]! - exact), what).toBeLessThanOrEqual(allowed);
            }
          for (const count of device === "cpu" ? [1, 2, 7, 19] : [1, 5]) {
            const first = random.integer(rows - count + 1);
            using part = noGrad(() => quantizedLinear(narrow(input, 0, first, count), weight, { activations }));
            expect(await part.data(), `${count} rows, ${what}`).toEqual(
              y.subarray(first * made.outputs, (first + count) * made.outputs),
            );
          }
        }
    }
  });

  test("the largest and the least codes by the largest inputs are added without an overflow", async () => {
    select();
    for (const format of formats)
      for (const always of [0, 1 - 2 ** -32]) {
        const inputs = inputsOf(format);
        const made = make(
          format,
          17,
          inputs,
          () => (format === "MXFP4" ? 119 : halfBits(2 ** -9)),
          new Constant(always),
        );
        using weight = weightOn(device, made);
        const rows = 5;
        const signs = [() => 1, () => -1, (k: number) => (k % 2 ? 1 : -1), (k: number) => (k % 4 < 2 ? 1 : -1)];
        const x = Float32Array.from({ length: rows * inputs }, (_, i) =>
          signs[Math.floor(i / inputs) % 4]!(i % inputs),
        );
        using input = tensor(x, [rows, inputs], { device });
        for (const activations of device === "cpu" ? activationBits : [24 as const])
          for (const count of [1, rows]) {
            using some = narrow(input, 0, 0, count);
            using out = noGrad(() => quantizedLinear(some, weight, { activations }));
            const y = await out.data();
            for (let r = 0; r < count; r++) {
              const { exact, bound } = product(made, x, r, 0, halfStep(activations, "f32"));
              const worst = Math.max(...Array.from({ length: 17 }, (_, n) => Math.abs(y[r * 17 + n]! - exact)));
              expect(worst, `${format}, ${activations} bits, row ${r} of ${count}`).toBeLessThanOrEqual(bound);
            }
          }
      }
  });
});

const integersOfBoth = ["avx2", "avx512vnni"].every((isa) => native.supportsIsa(isa));

testUnless(!integersOfBoth && "need AVX512-VNNI, with whose bits those of AVX2 are compared")(
  "AVX2 and AVX512-VNNI give the same bits in 16 bits",
  async () => {
    for (const format of formats) {
      const made = make(format, 21, inputsOf(format), smallFor(format));
      using weight = weightOn("cpu", made);
      const random = new Random(4);
      using x = tensor(
        Float32Array.from({ length: 6 * made.inputs }, () => random.normal()),
        [6, made.inputs],
        {
          device: "cpu",
        },
      );
      const results: Float32Array[] = [];
      for (const isa of ["avx2", "avx512vnni"]) {
        native.selectIsa(isa);
        using out = noGrad(() => quantizedLinear(x, weight, { activations: 16 }));
        results.push(Float32Array.from(await out.data()));
      }
      expect(results[0], format).toEqual(results[1]);
    }
  },
);

/** Draws scales of which some are zero, infinite or NaN; the others do not make products overflow in f16. */
function someAwkward(random: Random): number {
  const bits = [0, 0x8000, 0x7c00, 0xfc00, 0x7e00];
  return bits[random.integer(20 * bits.length)] ?? small(random);
}

describe.each(productTargets)("numbers that are not finite, on $name", ({ device, select }) => {
  test("scales and inputs that are zero, infinite or NaN make the sums that the formulas make", async () => {
    select();
    for (const [i, format] of formats.entries())
      for (const dtype of device === "cpu" ? dtypes : [dtypes[i % 3]!]) {
        const inputs = inputsOf(format);
        // MXFP4 has neither infinite scales nor zeros.
        const made = make(format, 37, inputs, format === "MXFP4" ? () => 119 : someAwkward);
        using weight = weightOn(device, made);
        const random = new Random(i);
        const rows = 9;
        const x = Float32Array.from({ length: rows * inputs }, () => roundTo(dtype, random.normal()));
        x.fill(0, 0, inputs);
        x[inputs + random.integer(inputs)] = Infinity;
        x[2 * inputs + random.integer(inputs)] = -Infinity;
        x[3 * inputs + random.integer(inputs)] = NaN;
        x[4 * inputs + 5] = x[4 * inputs + 200] = Infinity;
        using input = tensor(x, [rows, inputs], { device, dtype });
        using out = noGrad(() => quantizedLinear(input, weight));
        const y = await out.data();
        for (let r = 0; r < rows; r++)
          for (let n = 0; n < made.outputs; n++) {
            let [expected, size] = [0, 0];
            for (let k = 0; k < inputs; k++) {
              const product = x[r * inputs + k]! * made.values[n * inputs + k]!;
              expected += product;
              size += Math.abs(product);
            }
            const got = y[r * made.outputs + n]!;
            const bound = inputs * 2 ** -24 * size + roundoff(dtype) * Math.abs(expected) + leastRoundoff(dtype);
            const right = Number.isFinite(expected) ? Math.abs(got - expected) <= bound : same(got, expected);
            expect(right, `${format}, ${dtype}, row ${r}, output ${n}: ${got} for ${expected}`).toBe(true);
          }
      }
  });

  testUnless(device !== "cpu" && oneDevice)("inputs of any size are as precise as sums of f32", async () => {
    select();
    for (const format of formats) {
      const made = make(format, 5, inputsOf(format), smallFor(format));
      using weight = weightOn(device, made);
      // Powers of two for each 32 inputs, and one row so large that its sums overflow.
      const random = new Random(3);
      const { inputs } = made;
      const powers = Array.from({ length: inputs / 32 }, () => random.integer(60) - 30);
      const x = Float32Array.from(
        { length: 2 * inputs },
        (_, i) => random.normal() * (i < inputs ? 2 ** powers[i >> 5]! : 2 ** 126),
      );
      using input = tensor(x, [2, inputs], { device });
      using out = noGrad(() => quantizedLinear(input, weight));
      const y = await out.data();
      for (let r = 0; r < 2; r++)
        for (let n = 0; n < 5; n++) {
          let [expected, size] = [0, 0];
          for (let k = 0; k < inputs; k++) {
            const product = x[r * inputs + k]! * made.values[n * inputs + k]!;
            expected += product;
            size += Math.abs(product);
          }
          const bound = inputs * 2 ** -24 * size;
          // Where the sum of sizes overflows, the order of the terms decides.
          if (size < 2 ** 127) expect(Math.abs(y[r * 5 + n]! - expected), format).toBeLessThanOrEqual(bound);
        }
    }
  });
});

describe.each(devicesTested)("with everything around it, on $name", ({ device, select }) => {
  const normals = (shape: number[], dtype: FloatDType, seed: number): FloatTensor => {
    const random = new Random(seed);
    const values = Array.from({ length: shape.reduce((a, b) => a * b) }, () => roundTo(dtype, random.normal()));
    return tensor(values, shape, { device, dtype });
  };

  test("bias, activation, residual and gradients are those of the same weight in f32", async () => {
    select();
    const made = make("Q4_K", 21, 256, small);
    using weight = weightOn(device, made);
    for (const [dtype, rows] of [
      ["f32", 3],
      ["f32", 10],
      ["bf16", 3],
      ["bf16", 10],
    ] as const) {
      const x = parameter(normals([rows, 256], dtype, 1));
      const bias = parameter(normals([21], dtype, 2));
      using residual = normals([rows, 21], dtype, 3);
      const out = quantizedLinear(x, weight, { bias, activation: "relu", residual });
      sum(out).backward();
      const [xs, bs, rs, ys] = [await x.data(), await bias.data(), await residual.data(), await out.data()];
      const [dx, db] = [await x.grad!.data(), await bias.grad!.data()];
      const expectedDb = new Float64Array(21);
      for (let r = 0; r < rows; r++) {
        const [expectedDx, size] = [new Float64Array(256), new Float64Array(256)];
        for (let n = 0; n < 21; n++) {
          let before = bs[n]!;
          for (let k = 0; k < 256; k++) before += xs[r * 256 + k]! * made.values[n * 256 + k]!;
          const y = Math.max(0, before) + rs[r * 21 + n]!;
          expect(Math.abs(ys[r * 21 + n]! - y)).toBeLessThanOrEqual(1e-4 + 2 * roundoff(dtype) * Math.abs(y));
          if (before <= 0) continue;
          expectedDb[n]! += 1;
          for (let k = 0; k < 256; k++) {
            expectedDx[k]! += made.values[n * 256 + k]!;
            size[k]! += Math.abs(made.values[n * 256 + k]!);
          }
        }
        // In the backward pass, the weight may be rounded to the dtype of the gradient, as the gradient is.
        for (const [k, value] of expectedDx.entries()) {
          const bound = roundoff(dtype) * (size[k]! + Math.abs(value)) + 21 * 2 ** -24 * size[k]!;
          expect(Math.abs(value - dx[r * 256 + k]!)).toBeLessThanOrEqual(bound);
        }
      }
      expect(Array.from(db)).toEqual(Array.from(expectedDb));
      for (const used of [x, bias, out]) used.dispose();
    }
  });

  test("a loss over a table in blocks has the gradient of the table in f32", async () => {
    select();
    const made = make("Q8_0", 40, 64, () => halfBits(2 ** -9));
    using weight = weightOn(device, made);
    using targets = tensor(Int32Array.of(3, 39, 0), [3], { device, dtype: "i32" });
    const x = parameter(normals([3, 64], "f32", 5));
    const loss = quantizedLinearCrossEntropy(x, weight, targets);
    loss.backward();
    const [xs, dx] = [await x.data(), await x.grad!.data()];
    let expected = 0;
    for (let r = 0; r < 3; r++) {
      const logits = Array.from({ length: 40 }, (_, n) =>
        Array.from({ length: 64 }, (_, k) => xs[64 * r + k]! * made.values[64 * n + k]!).reduce((a, b) => a + b),
      );
      const total = logits.reduce((a, logit) => a + Math.exp(logit), 0);
      expected += (Math.log(total) - logits[[3, 39, 0][r]!]!) / 3;
      for (let k = 0; k < 64; k++) {
        const gradient = logits.reduce((a, logit, n) => {
          const own = n === [3, 39, 0][r]! ? 1 : 0;
          return a + ((Math.exp(logit) / total - own) / 3) * made.values[64 * n + k]!;
        }, 0);
        expect(Math.abs(dx[64 * r + k]! - gradient)).toBeLessThan(1e-6);
      }
    }
    expect(Math.abs((await loss.item()) - expected)).toBeLessThan(1e-5);
    for (const used of [x, loss]) used.dispose();
  });

  test("a weight without inputs adds nothing to the bias, in one row and in many", async () => {
    select();
    using weight = weightOn(device, make("Q8_0", 35, 0));
    using bias = normals([35], "f32", 8);
    const expected = Array.from(await bias.data());
    for (const rows of [1, 3, 19]) {
      using x = normals([rows, 0], "f32", 1);
      using out = noGrad(() => quantizedLinear(x, weight, { bias }));
      expect(Array.from(await out.data())).toEqual(Array.from({ length: rows }, () => expected).flat());
    }
  });

  test("refuses what does not fit", async () => {
    select();
    const made = make("Q6_K", 4, 256);
    using weight = weightOn(device, made);
    using ids = tensor(Int32Array.of(1, 4), [2], { device, dtype: "i32" });
    using rows = quantizedEmbedding(ids, weight);
    await expectRejection(rows.data(), "ERR_RANGE", /expected ids in \[0, 4\), got 4 at position 1/);
    using x = normals([2, 255], "f32", 1);
    expectError(() => quantizedLinear(x, weight), "ERR_SHAPE", /expected x of shape \[\.\.\., 256\], got \[2, 255\]/);
    const wrong = { ...weight, format: "Q9_K" as BlockFormat };
    expectError(() => dequantize(wrong), "ERR_ARGUMENT", /weight\.format/);
    // What the native side checks for itself.
    using out: FloatTensor = allocate([4, 256], "f32", weight.blocks.device);
    const { blocks: stored } = weight;
    const read = (format: number, target = out): void => ops.dequantize_blocks({ out: target, blocks: stored, format });
    expectError(() => read(13), "ERR_ARGUMENT", /expected a format from 0 to 12, got 13/);
    expectError(() => read(blockFormats.Q4_K.kind), "ERR_SHAPE", /expected blocks of shape \[4, 144\], got \[4, 210\]/);
    using odd: FloatTensor = allocate([4, 250], "f32", weight.blocks.device);
    expectError(() => read(blockFormats.Q6_K.kind, odd), "ERR_SHAPE", /whole blocks of 256 numbers, got 250/);
  });
});
