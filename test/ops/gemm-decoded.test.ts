/**
 * Gradients through weights in 8 and 4 bits and in blocks of GGUF files against sums in float64 of the numbers that the
 * weights stand for: every dtype, form, tile, and size that is awkward for one. They also test that the floats of a weight
 * in 8 or 4 bits are never all in memory, and on CUDA, that no form of weight has floats there and that a gradient is one
 * kernel.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type BlockFormat, blockFormats } from "../../lib/core/block-formats.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import { device as deviceOf, setTf32 } from "../../lib/core/device.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { ops } from "../../lib/core/native.js";
import {
  type CompressedTensors,
  dequantize,
  quantize,
  quantizedBits,
  type QuantizedTensors,
} from "../../lib/ops/quantize.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { blocksOn } from "../support/block-weight.js";
import { expectChild } from "../support/child.js";
import { noSimulator } from "../support/cuda.js";
import { leastRoundoff, roundoff } from "../support/dtypes.js";
import { temporaryFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { testUnless } from "../support/skip.js";
import { devicesTested, productTargets } from "../support/targets.js";

// There are so few that large tiles serve products of a test's size.
vi.hoisted(() => (process.env.HEED_SIMULATOR_MULTIPROCESSORS = "4"));

afterEach(() => setTf32(false));

const dtypes = ["f32", "bf16", "f16"] as const;
const random = new Random(77);
const normals = (count: number): Float32Array => Float32Array.from({ length: count }, () => random.normal());

/** Computes dinp (+)= dout · Ŵᵀ. */
function backward(dinp: FloatTensor, dout: FloatTensor, weight: CompressedTensors, accumulate: boolean): void {
  if ("blocks" in weight)
    ops.gemm_blocks_backward({
      ...{ dinp, dout, blocks: weight.blocks, accumulate },
      format: blockFormats[weight.format].kind,
    });
  else {
    const { codes, scales, bits } = weight;
    ops.gemm_quantized_backward({ dinp, dout, codes, scales, accumulate, bits });
  }
}

const release = (weight: CompressedTensors): void => {
  for (const one of "blocks" in weight ? [weight.blocks] : [weight.codes, weight.scales]) one.dispose();
};

interface Case {
  rows: number;
  weight: CompressedTensors;
  dtype: FloatDType;
  accumulate?: boolean;
  /** Dtype of the gradient. @default the case's */
  out?: FloatDType;
  /** Rounds what is multiplied. */
  rounded?: (x: number) => number;
}

/** Compares a gradient with sums in float64 of products with the weight's numbers, rounded to the dtype or not. */
async function check(
  device: string,
  { rows, weight, dtype, accumulate = false, out = dtype, rounded = (x) => x }: Case,
): Promise<void> {
  const { inputs, outputs } = weight;
  using numbers = dequantize(weight); // [outputs, inputs]
  using dout = tensor(normals(rows * outputs), [rows, outputs], { device, dtype });
  using dinp = tensor(normals(rows * inputs), [rows, inputs], { device, dtype: out });
  const w = (await numbers.data()).map(rounded);
  const up = (await dout.data()).map(rounded);
  const before = await dinp.data();
  backward(dinp, dout, weight, accumulate);
  const got = await dinp.data();
  const [sums, sizes] = [new Float64Array(inputs), new Float64Array(inputs)];
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < inputs; k++) {
      sums[k] = accumulate ? before[row * inputs + k]! : 0;
      sizes[k] = Math.abs(sums[k]!);
    }
    for (let n = 0; n < outputs; n++) {
      const x = up[row * outputs + n]!;
      for (let k = 0; k < inputs; k++) {
        const term = x * w[n * inputs + k]!;
        sums[k]! += term;
        sizes[k]! += Math.abs(term);
      }
    }
    for (let k = 0; k < inputs; k++) {
      // Each term is rounded as often as there are terms, at most; the weight may be rounded to the dtype, and so is
      // the result.
      const ofWeight = dtype === "f32" ? 0 : roundoff(dtype) * sizes[k]! + outputs * leastRoundoff(dtype) * 8;
      const ofResult = roundoff(out) * Math.abs(sums[k]!) + leastRoundoff(out);
      const bound = (outputs + 8) * 2 ** -24 * sizes[k]! + ofWeight + ofResult;
      const error = Math.abs(got[row * inputs + k]! - sums[k]!);
      if (!(error <= bound)) expect(error, `row ${row}, input ${k}`).toBeLessThanOrEqual(bound);
    }
  }
}

/** Sizes that have one tile, tails of tiles, several panels, and more than one part of K. */
const sizes: [rows: number, outputs: number, inputs: number][] = [
  [1, 1, 1],
  [1, 33, 40],
  [3, 17, 31],
  [16, 72, 100],
  [17, 48, 72],
  [70, 31, 131],
  [66, 40, 68],
];
/** Products large enough for large tiles of few multiprocessors, and for parts of K. */
const large: [rows: number, outputs: number, inputs: number][] = [
  [260, 40, 300],
  [33, 600, 136],
];

describe.each(productTargets)("on $name", ({ device, select }) => {
  test.each(dtypes)("gradients through 8 and 4 bits in %s", async (dtype) => {
    select();
    for (const [i, [rows, outputs, inputs]] of [...sizes, ...large].entries())
      for (const bits of quantizedBits) {
        const groupSize = ([32, 64, 128, 256] as const)[i % 4]!;
        const weight = scope(() =>
          quantize(tensor(normals(outputs * inputs), [outputs, inputs], { device }), { bits, groupSize }),
        );
        for (const accumulate of [false, true]) await check(device, { rows, weight, dtype, accumulate });
        release(weight);
      }
  });

  test.each(dtypes)("gradients through blocks of every format in %s", async (dtype) => {
    select();
    for (const [i, format] of (Object.keys(blockFormats) as BlockFormat[]).entries()) {
      const { numbers } = blockFormats[format];
      const [rows, outputs] = (
        [
          [2, 21],
          [19, 33],
          [70, 40],
          [18, 17],
        ] as const
      )[i % 4]!;
      const weight = blocksOn(random, device, format, outputs, numbers === 32 ? 32 * (1 + (i % 5)) : 256);
      for (const accumulate of [false, true]) await check(device, { rows, weight, dtype, accumulate });
      release(weight);
    }
    const weight = blocksOn(random, device, "Q4_0", 24, 288);
    await check(device, { rows: 260, weight, dtype });
    release(weight);
  });
});

describe.each(devicesTested)("on $name", ({ device }) => {
  const quantized = (outputs: number, inputs: number, bits: 4 | 8): QuantizedTensors =>
    scope(() => quantize(tensor(normals(outputs * inputs), [outputs, inputs], { device }), { bits }));

  test("a gradient of 16-bit products may be f32", async () => {
    for (const dtype of ["bf16", "f16"] as const)
      for (const accumulate of [false, true]) {
        const weight = quantized(72, 50, 8);
        await check(device, { rows: 20, weight, dtype, accumulate, out: "f32" });
        release(weight);
      }
  });

  test("a scale that is NaN reaches the inputs of its group and no others", async () => {
    const [rows, outputs, inputs] = [20, 40, 96];
    const values = normals(outputs * inputs);
    values[17 * inputs + 40] = Infinity; // of output 17, inputs 32 to 63
    const weight = scope(() => quantize(tensor(values, [outputs, inputs], { device }), { bits: 8 }));
    for (const dtype of dtypes) {
      using dout = tensor(normals(rows * outputs), [rows, outputs], { device, dtype });
      using dinp = zeros([rows, inputs], { device, dtype });
      backward(dinp, dout, weight, false);
      (await dinp.data()).forEach((x, i) =>
        expect(Number.isNaN(x), `${dtype}, input ${i % inputs}`).toBe(i % inputs >= 32 && i % inputs < 64),
      );
    }
    release(weight);
  });

  test("no floats of the weight are allocated", async () => {
    // What a product packs or adds up may take memory, but none that grows with both sides of the weight.
    const cuda = device !== "cpu";
    const [outputs, inputs] = cuda ? [240, 1024] : [4096, 1024];
    const weights: CompressedTensors[] = [
      ...quantizedBits.map((bits) => quantized(outputs, inputs, bits)),
      ...(cuda ? [blocksOn(random, device, "Q4_K", outputs, inputs)] : []),
    ];
    for (const weight of weights)
      for (const dtype of dtypes)
        for (const rows of [3, 20, 70]) {
          using dout = tensor(new Float32Array(rows * outputs), [rows, outputs], { device, dtype });
          using dinp = zeros([rows, inputs], { device, dtype });
          deviceOf(device).resetPeak();
          const { live } = deviceOf(device).memory();
          backward(dinp, dout, weight, false);
          const more = deviceOf(device).memory().peak - live;
          if (cuda) expect(more, `${dtype}, ${rows} rows`).toBe(0);
          else expect(more, `${dtype}, ${rows} rows`).toBeLessThan((outputs * inputs * 4) / 2);
        }
    await deviceOf(device).synchronize();
    weights.forEach(release);
  });
});

const cuda = devicesTested.filter(({ device }) => device.startsWith("cuda"));

describe.each(cuda)("tf32 on $name", ({ device }) => {
  /** Rounds to ten bits after the point, with ties away from zero. */
  const rounded = (x: number): number => {
    const bits = new Uint32Array(Float32Array.of(x).buffer);
    bits[0] = (bits[0]! + 0x1000) & ~0x1fff;
    return new Float32Array(bits.buffer)[0]!;
  };

  test("gradients are those of rounded operands, and of exact ones where rows have no multiple of four", async () => {
    setTf32(true);
    for (const [rows, outputs, inputs] of [
      [20, 40, 24],
      [68, 36, 75],
      [260, 72, 264],
      [132, 1064, 136],
    ] as const)
      for (const bits of [8, 4, "blocks"] as const) {
        const weight =
          bits === "blocks"
            ? blocksOn(random, device, "Q5_1", outputs, Math.ceil(inputs / 32) * 32)
            : scope(() => quantize(tensor(normals(outputs * inputs), [outputs, inputs], { device }), { bits }));
        for (const accumulate of [false, true])
          await check(device, { rows, weight, dtype: "f32", accumulate, rounded });
        release(weight);
      }
    const weight = scope(() => quantize(tensor(normals(35 * 40), [35, 40], { device }), { bits: 4 }));
    await check(device, { rows: 20, weight, dtype: "f32" });
    release(weight);
  });
});

testUnless(noSimulator)("a gradient is one kernel, which reads the codes", async () => {
  const counters = path.join(temporaryFolder(), "counters.json");
  const program = `
    const x = heed.parameter(heed.randn([40, 96], { seed: 1, device: "cuda" }).to("bf16"));
    const weight = heed.quantize(heed.randn([72, 96], { seed: 2, device: "cuda" }), { bits: 4 });
    heed.sum(heed.quantizedLinear(x, weight)).backward();
    console.log((await x.grad.data()).length);
  `;
  expect(await expectChild(program, 0, { HEED_SIMULATOR_COUNTERS: counters })).toBe("3840");
  const kernels = JSON.parse(readFileSync(counters, "utf8")) as Record<string, { launches: number }>;
  const launches = (pattern: RegExp): number =>
    Object.entries(kernels).reduce((count, [name, one]) => count + (pattern.test(name) ? one.launches : 0), 0);
  expect(launches(/^gemm_decoded_bf16_/)).toBe(1);
  // Only the forward pass makes floats of the weight, for its 40 rows.
  expect(launches(/^dequantize/)).toBe(1);
});
