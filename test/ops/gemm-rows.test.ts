// Tests what the native matrix product does with its operands before it multiplies: tensors of different ranks count as
// matrices of all their rows, and the flags transpose a and b. gemm.test.ts has the kernels.
//
// Values are multiples of 1/16 up to 1, whose products and sums are exact in f32 in any order and which every dtype can
// represent. Results are f32, so that they must be exactly equal to those in float64.
import { expect, test } from "vitest";
import { tensor, zeros } from "../../lib/core/creation.js";
import { ops } from "../../lib/core/native.js";
import { nativeActivations } from "../../lib/core/native-kinds.js";
import { scope } from "../../lib/core/scope.js";
import { numel } from "../../lib/core/shape.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectError } from "../support/errors.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(11);
const numbers = (count: number): number[] => Array.from({ length: count }, () => (random.integer(33) - 16) / 16);

/** Returns a · b for a [rows, depth] and b [depth, columns], whose elements are given by functions of their places. */
function product(
  [rows, depth, columns]: [number, number, number],
  a: (i: number, k: number) => number,
  b: (k: number, j: number) => number,
): number[] {
  return Array.from({ length: rows * columns }, (_, at) => {
    let sum = 0;
    for (let k = 0; k < depth; k++) sum += a(Math.floor(at / columns), k) * b(k, at % columns);
    return sum;
  });
}

const leading = [[], [1], [3], [2, 3], [2, 1, 3], [1, 1], [2, 0], [17, 5], [1, 4, 1, 9]];

test.for(targets)("operands of any rank count as rows, with each order of the weight, on $name", async (target) => {
  target.select();
  const { device } = target;
  for (const dtype of ["f32", "bf16", "f16"] as const)
    for (const dims of leading)
      for (const [inputs, outputs] of [
        [1, 1],
        [5, 7],
        [33, 31],
      ] as const)
        for (const transposeB of [false, true]) {
          const rows = numel(dims);
          const [x, dy, w] = [numbers(rows * inputs), numbers(rows * outputs), numbers(inputs * outputs)];
          const [bias, residual, before] = [numbers(outputs), numbers(rows * outputs), numbers(inputs * outputs)];
          const wAt = (k: number, j: number): number => (transposeB ? w[j * inputs + k]! : w[k * outputs + j]!);
          const plain = product([rows, inputs, outputs], (i, k) => x[i * inputs + k]!, wAt);
          const y = plain.map((v, at) => Math.max(0, v + bias[at % outputs]!) + residual[at]!);
          const dx = product(
            [rows, outputs, inputs],
            (i, j) => dy[i * outputs + j]!,
            (j, k) => wAt(k, j),
          );
          const dw = product(
            transposeB ? [outputs, rows, inputs] : [inputs, rows, outputs],
            (i, r) => (transposeB ? dy[r * outputs + i]! : x[r * inputs + i]!),
            (r, j) => (transposeB ? x[r * inputs + j]! : dy[r * outputs + j]!),
          ).map((v, at) => v + before[at]!);
          const db = Array.from({ length: outputs }, (_, j) =>
            dy.reduce((s, v, at) => (at % outputs === j ? s + v : s), 0),
          );

          const make = (values: number[], shape: number[], narrow = true): FloatTensor =>
            tensor(values, shape, { device, dtype: narrow ? dtype : "f32" });
          const [xs, dys] = [make(x, [...dims, inputs]), make(dy, [...dims, outputs])];
          const weight = make(w, transposeB ? [outputs, inputs] : [inputs, outputs]);
          const out = zeros([...dims, outputs], { device });
          ops.gemm({
            out,
            a: xs,
            b: weight,
            transposeB,
            bias: make(bias, [outputs], false),
            residual: make(residual, [...dims, outputs], false),
            activation: nativeActivations.relu,
          });
          const back = zeros([...dims, inputs], { device });
          ops.gemm({ out: back, a: dys, b: weight, transposeB: !transposeB });
          const [a, b] = transposeB ? [dys, xs] : [xs, dys];
          const dweight = make(before, weight.shape as number[], false);
          const sum = zeros([outputs], { device });
          ops.gemm({ out: dweight, a, b, transposeA: true, sum, sumOfA: transposeB, accumulate: true });
          const label = `${dtype} [${dims.join(", ")}] ${inputs} → ${outputs} ${transposeB}`;
          for (const [name, got, expected] of [
            ["y", out, y],
            ["dx", back, dx],
            ["dw", dweight, dw],
            ["db", sum, db],
          ] as const)
            expect(
              [...(await got.data())].map((v) => v + 0),
              `${label}: ${name}`,
            ).toEqual(expected.map((v) => v + 0));
          for (const made of [xs, dys, weight, out, back, dweight, sum]) made.dispose();
        }
});

test.for(targets)("both operands of a batch are transposed on $name", async (target) => {
  target.select();
  const { device } = target;
  const [batch, m, k, n] = [3, 5, 18, 7];
  for (const transposeA of [false, true])
    for (const transposeB of [false, true]) {
      const [a, b] = [numbers(batch * m * k), numbers(batch * k * n)];
      const expected = Array.from({ length: batch }, (_, at) =>
        product(
          [m, k, n],
          (i, d) => a[at * m * k + (transposeA ? d * m + i : i * k + d)]!,
          (d, j) => b[at * k * n + (transposeB ? j * k + d : d * n + j)]!,
        ),
      ).flat();
      using out = zeros([batch, m, n], { device });
      using left = tensor(a, transposeA ? [batch, k, m] : [batch, m, k], { device });
      using right = tensor(b, transposeB ? [batch, n, k] : [batch, k, n], { device });
      ops.gemm({ out, a: left, b: right, transposeA, transposeB });
      expect([...(await out.data())].map((v) => v + 0)).toEqual(expected.map((v) => v + 0));
    }
});

/** Returns views of padded rows: [2, 3, 5] in memory of rows of 8, and the same with gaps between the groups of rows. */
function padded(device: string): { even: FloatTensor; uneven: FloatTensor; values: number[] } {
  const values = numbers(64);
  const whole = tensor(values, [64], { device });
  return { even: whole.viewAs([2, 3, 5], [24, 8, 1]), uneven: whole.viewAs([2, 3, 5], [32, 8, 1]), values };
}

test.for(targets)("rows may lie apart, but only at equal distances, on $name", async (target) => {
  target.select();
  const { device } = target;
  const { even, uneven, values } = padded(device);
  const w = numbers(20);
  using weight = tensor(w, [5, 4], { device });
  using out = zeros([2, 3, 4], { device });
  ops.gemm({ out, a: even, b: weight });
  const expected = product(
    [6, 5, 4],
    (i, k) => values[8 * i + k]!,
    (k, j) => w[4 * k + j]!,
  );
  expect([...(await out.data())].map((v) => v + 0)).toEqual(expected.map((v) => v + 0));
  const refused = (a: FloatTensor, message: RegExp): void =>
    expectError(() => ops.gemm({ out, a, b: weight }), "ERR_SHAPE", message);
  refused(uneven, /gemm: expected the rows of a, of shape \[2, 3, 5\], at equal distances/);
  scope(() => refused(zeros([], { device }), /gemm: expected a with at least 1 dimension, got shape \[\]/));
  scope(() => refused(zeros([5, 5], { device }), /gemm: expected a \[\.\.\., 6, K\] and b \[\.\.\., K, 4\]/));
  for (const view of [even, uneven]) view.dispose();
});
