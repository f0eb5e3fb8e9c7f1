/**
 * A row's bits do not depend on its neighbours: the same rows as one batch, some at a time and each alone, on every
 * instruction set and on CUDA.
 */
import { afterAll, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { type BlockFormat, blockFormats } from "../../lib/core/block-formats.js";
import { randn, tensor } from "../../lib/core/creation.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { native } from "../../lib/core/native.js";
import { alibiSlopes } from "../../lib/ops/attention-masks.js";
import { attention, type AttentionOptions } from "../../lib/ops/attention.js";
import { mul } from "../../lib/ops/binary.js";
import { linear } from "../../lib/ops/linear.js";
import { quantize, quantizedLinear } from "../../lib/ops/quantize.js";
import { softmax } from "../../lib/ops/softmax.js";
import { layerNorm } from "../../lib/ops/layer-norm.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { blocksOn } from "../support/block-weight.js";
import { Random } from "../support/random.js";
import { bestIsa, productTargets } from "../support/targets.js";

const dtypes = ["f32", "bf16", "f16"] as const;
const random = new Random(17);

afterAll(() => native.selectIsa(bestIsa));

const normals = (shape: readonly number[], device: string, dtype: FloatDType): FloatTensor =>
  randn(shape, { device, dtype, seed: random.integer(1_000_000) });

/** Bytes of the numbers, which tell 0 from -0, four a number. */
async function bytesOf(body: () => FloatTensor): Promise<Buffer> {
  using out = noGrad(() => scope(() => body().to("f32")));
  return Buffer.from((await out.data()).buffer);
}

/** Expects that `run` gives each run of rows of x the bits that it gives them within all of x. */
async function expectRowsAlone(
  x: FloatTensor,
  counts: readonly number[],
  run: (rows: FloatTensor) => FloatTensor,
): Promise<void> {
  const all = x.shape[0]!;
  const whole = await bytesOf(() => run(x));
  const width = whole.length / all;
  for (const count of counts) {
    const first = random.integer(all - count + 1);
    // The product makes a copy, which begins at another address than the rows within x.
    const some = await bytesOf(() => run(mul(narrow(x, 0, first, count), 1)));
    const same = some.equals(whole.subarray(first * width, (first + count) * width));
    expect(same, `${count} rows from ${first} on of ${x.shape.join("×")}`).toBe(true);
  }
}

/** Outputs and inputs. */
const cpuSizes = [
  [7, 129],
  [129, 3072],
  [768, 64],
  [33, 4099],
  [13, 261],
  [5, 1541],
  [17, 1],
] as const;
/** With both kinds of copies to shared memory, and several parts of f32's sums. */
const cudaSizes = [
  [7, 129],
  [136, 776],
  [17, 1],
] as const;
const rows = 200;

for (const { name, device, select } of productTargets) {
  const sizes = device === "cpu" ? cpuSizes : cudaSizes;
  for (const dtype of dtypes)
    test(`linear, ${dtype}, on ${name}`, async () => {
      select();
      for (const [outputs, inputs] of sizes)
        for (const layout of ["oi", "io"] as const) {
          using x = normals([rows, inputs], device, dtype);
          using weight = normals(layout === "oi" ? [outputs, inputs] : [inputs, outputs], device, dtype);
          using bias = normals([outputs], device, dtype);
          await expectRowsAlone(x, [1, 2, 5, 8, 9, 33], (rows) =>
            linear(rows, weight, { bias, layout, activation: "gelu" }),
          );
        }
    });

  for (const bits of [8, 4] as const)
    test(`weights of ${bits} bits on ${name}`, async () => {
      select();
      for (const dtype of dtypes)
        for (const [outputs, inputs] of sizes) {
          using x = normals([rows, inputs], device, dtype);
          using weight = normals([outputs, inputs], device, "f32");
          const quantized = quantize(weight, { bits });
          await expectRowsAlone(x, [1, 2, 5, 8, 9, 33], (rows) => quantizedLinear(rows, quantized));
          quantized.codes.dispose();
          quantized.scales.dispose();
        }
    });

  test(`weights in blocks on ${name}`, async () => {
    select();
    for (const [i, format] of (Object.keys(blockFormats) as BlockFormat[]).entries()) {
      const { numbers } = blockFormats[format];
      const depths = numbers === 32 ? [32, 96, 800] : [256, 768];
      // The software device takes its time, so there a format has one dtype and one size.
      for (const dtype of device === "cpu" ? dtypes : [dtypes[i % 3]!])
        for (const inputs of device === "cpu" ? depths : depths.slice(0, 1)) {
          using x = normals([rows, inputs], device, dtype);
          const weight = blocksOn(random, device, format, inputs === 96 ? 130 : 21, inputs);
          await expectRowsAlone(x, [1, 2, 3, 4, 5, 8, 9, 33, 67], (rows) => quantizedLinear(rows, weight));
          weight.blocks.dispose();
        }
    }
  });

  test(`norms and softmax on ${name}`, async () => {
    select();
    for (const dtype of dtypes)
      for (const width of [7, 129, 768]) {
        using x = normals([50, width], device, dtype);
        await expectRowsAlone(x, [1, 2, 9, 33], (rows) => softmax(rows));
        await expectRowsAlone(x, [1, 2, 9, 33], (rows) => layerNorm(rows));
      }
  });

  test(`attention on ${name}`, async () => {
    select();
    const long = 300;
    const cases: [number, number, number, (heads: number) => AttentionOptions][] = [
      [4, 4, 64, () => ({ causal: true })],
      [4, 2, 40, () => ({ causal: true, window: 100 })],
      [6, 1, 33, (heads) => ({ causal: true, slopes: alibiSlopes(heads, { device }) })],
      [2, 2, 128, () => ({ causal: true, softcap: 2.5 })],
    ];
    // The software device takes its time, so there every dtype has some of the cases.
    for (const [i, dtype] of dtypes.entries())
      for (const [heads, kvHeads, size, options] of device === "cpu" ? cases : cases.filter((_, c) => c % 3 === i)) {
        using q = normals([2, long, heads, size], device, dtype);
        using k = normals([2, long + 20, kvHeads, size], device, dtype);
        using v = normals([2, long + 20, kvHeads, size], device, dtype);
        // Queries [first, first + count) of sequences [b, b + batch), as a chunk or a step of decoding has them.
        const part = (b: number, batch: number, first: number, count: number): Promise<Buffer> =>
          bytesOf(() => {
            const of = (x: FloatTensor): FloatTensor => narrow(x, 0, b, batch);
            const ints = (value: number) =>
              tensor(new Int32Array(batch).fill(value), [batch], { device, dtype: "i32" });
            return attention(narrow(of(q), 1, first, count), of(k), of(v), {
              ...options(heads),
              queryStarts: ints(first),
              keyLengths: ints(first + count),
            });
          });
        const whole = await part(0, 2, 0, long);
        const row = heads * size * 4;
        for (const [b, batch, first, count] of [
          [0, 2, 0, 1],
          [1, 1, long - 1, 1],
          [0, 2, long - 1, 1],
          [1, 1, 130, 2],
          [0, 1, 100, 9],
          [0, 2, 64, 33],
          [1, 1, 5, long - 5],
        ] as const) {
          const some = await part(b, batch, first, count);
          for (let i = 0; i < batch; i++) {
            const at = ((b + i) * long + first) * row;
            const same = some
              .subarray(i * count * row, (i + 1) * count * row)
              .equals(whole.subarray(at, at + count * row));
            expect(
              same,
              `${dtype}, heads of ${size}, ${count} queries from ${first} on of sequence ${b + i} of ${batch}`,
            ).toBe(true);
          }
        }
      }
  });
}
