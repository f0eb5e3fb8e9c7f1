/**
 * Products with a thin operand, such as a LoRA's rank, on every instruction set: few rows, few columns and a short K,
 * for which the CPU has forms of their own.
 *
 * An element's bits depend neither on the size of the result nor on the form that computes it. So each thin product is
 * compared bit for bit with a part of one large product, whose sums in f32 are compared with float64. The large product
 * is made of two equal matrices, because batches are always computed in tiles. All memory between the elements of an
 * operand is NaN.
 */
import { afterAll, describe, expect, test } from "vitest";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { native, ops } from "../../lib/core/native.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { scope } from "../../lib/core/scope.js";
import { Random } from "../support/random.js";
import { bestIsa, productTargets } from "../support/targets.js";

const side = 85;
const ranks = [...Array.from({ length: 17 }, (_, i) => i + 1), 33, 64];
const depths = [1, 7, 8, 33, 64, 129, 515, 1541, 3075];
const layouts = ["rows", "columns", "spread"] as const;
type Layout = (typeof layouts)[number];
/** Dtypes of a, b and out. */
const kinds: [a: FloatDType, b: FloatDType, out: FloatDType][] = [
  ["f32", "f32", "f32"],
  ["bf16", "bf16", "bf16"],
  ["bf16", "f32", "bf16"],
  ["bf16", "f32", "f32"],
  ["f16", "f16", "f16"],
  ["f16", "f32", "f32"],
];

/** Returns the numbers of what `body` makes. */
async function read(body: () => FloatTensor): Promise<Float32Array> {
  using out = scope(() => body().to("f32"));
  return await out.data();
}

/** A matrix of normal numbers, with NaN in the gaps between its rows or columns. */
class Matrix {
  readonly #memory: FloatTensor;
  readonly #strides: readonly [number, number];

  constructor(random: Random, rows: number, columns: number, layout: Layout, dtype: FloatDType) {
    const strides = { rows: [columns + 3, 1], columns: [1, rows + 5], spread: [2 * columns + 1, 2] } as const;
    const [row, column] = strides[layout];
    const values = new Float32Array((rows - 1) * row + (columns - 1) * column + 1).fill(NaN);
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) values[i * row + j * column] = random.normal();
    this.#memory = tensor(values, [values.length], { dtype, device: "cpu" });
    this.#strides = [row, column];
  }

  [Symbol.dispose](): void {
    this.#memory.dispose();
  }

  /** Returns the first rows and columns. */
  part(rows: number, columns: number): FloatTensor {
    return this.#memory.viewAs([rows, columns], this.#strides);
  }

  /** Returns a batch of two, each of which is the whole matrix. */
  twice(rows: number, columns: number): FloatTensor {
    return this.#memory.viewAs([2, rows, columns], [0, ...this.#strides]);
  }

  /** Returns the numbers as `dtype` has them, in row-major order. */
  async numbers(rows: number, columns: number, dtype: FloatDType): Promise<Float32Array> {
    const values = await read(() => this.#memory.to(dtype));
    const [row, column] = this.#strides;
    return Float32Array.from(
      { length: rows * columns },
      (_, e) => values[Math.floor(e / columns) * row + (e % columns) * column]!,
    );
  }
}

const normals = (random: Random, length: number): Float32Array => Float32Array.from({ length }, () => random.normal());

const rounded = (values: Float32Array, dtype: FloatDType): Promise<Float32Array> =>
  read(() => tensor(values, [values.length], { dtype, device: "cpu" }));

/** Compares bits, which tell 0 from -0. */
function expectBits(label: string, got: Float32Array, expected: Float32Array): void {
  const [left, right] = [got, expected].map((x) => new Int32Array(x.buffer, x.byteOffset, x.length));
  const off = left!.findIndex((bits, i) => bits !== right![i]);
  if (off >= 0) expect.fail(`${label}: expected ${expected[off]} at ${off}, got ${got[off]}`);
}

/** Expects that some sums differ from float64's by no more than the rounding of each addition explains. */
function expectSums(label: string, sums: Float32Array, a: Float32Array, b: Float32Array, k: number): void {
  for (const i of [0, 7, side - 1])
    for (let j = 0; j < side; j++) {
      let [sum, size] = [0, 0];
      for (let p = 0; p < k; p++) {
        const product = a[i * k + p]! * b[p * side + j]!;
        sum += product;
        size += Math.abs(product);
      }
      const difference = Math.abs(sums[i * side + j]! - sum);
      if (!(difference <= (k + 8) * 2 ** -24 * size))
        expect.fail(`${label}: row ${i}, column ${j} is off by ${difference}`);
    }
}

interface Extras {
  bias?: Float32Array;
  residual?: Float32Array;
  /** Old value, which the result is added to. */
  old?: Float32Array;
}

/** Returns a · b and what is added to it, in `dtype`. */
function product(a: FloatTensor, b: FloatTensor, dtype: FloatDType, extras: Extras): FloatTensor {
  const [m, n] = [a.shape.at(-2)!, b.shape.at(-1)!];
  const made = (values: Float32Array, shape: number[]): FloatTensor => tensor(values, shape, { dtype, device: "cpu" });
  const out = made(extras.old ?? new Float32Array(m * n).fill(NaN), [m, n]);
  ops.gemm({
    out,
    a,
    b,
    bias: extras.bias && made(extras.bias, [n]),
    residual: extras.residual && made(extras.residual, [m, n]),
    accumulate: extras.old !== undefined,
  });
  return out;
}

describe.each(productTargets.filter(({ device }) => device === "cpu"))("thin products on $name", ({ select }) => {
  afterAll(() => native.selectIsa(bestIsa));

  test.for(kinds)("of %s and %s in %s", async ([aType, bType, outType]) => {
    select();
    const random = new Random(31);
    const check = async (k: number, first: Layout, second: Layout, step: number): Promise<void> => {
      using a = new Matrix(random, side, k, first, aType);
      using b = new Matrix(random, k, side, second, bType);
      const both = await read(() => {
        const out = zeros([2, side, side], { device: "cpu" });
        ops.gemm({ out, a: a.twice(side, k), b: b.twice(k, side) });
        return out;
      });
      const sums = both.subarray(0, side * side);
      const label = `${side}×${side}×${k} of ${first} and ${second}`;
      expectSums(label, sums, await a.numbers(side, k, aType), await b.numbers(k, side, aType), k);
      for (const [i, rank] of ranks.entries())
        for (const [m, n] of [
          [rank, side],
          [side, rank],
        ] as const) {
          const [bias, other] = [
            await rounded(normals(random, n), outType),
            await rounded(normals(random, m * n), outType),
          ];
          const all: Extras[] = [{}, { bias }, { bias, residual: other }];
          // Over several parts of K, tiles add the old value to the first one.
          if (k <= 300) all.push({ old: other }, { residual: other, bias, old: other });
          const extras = all[(i + step) % all.length]!;
          const expected = Float32Array.from({ length: m * n }, (_, e) => {
            let x = sums[Math.floor(e / n) * side + (e % n)]!;
            if (extras.bias) x = Math.fround(x + bias[e % n]!);
            if (extras.residual) x = Math.fround(x + other[e]!);
            return extras.old ? Math.fround(x + other[e]!) : x;
          });
          const got = await read(() => product(a.part(m, k), b.part(k, n), outType, extras));
          expectBits(
            `${m}×${n}×${k} of ${first} and ${second}, ${Object.keys(extras).join()}`,
            got,
            await rounded(expected, outType),
          );
        }
    };
    for (const [d, k] of depths.entries()) {
      const pairs = [
        [layouts[d % 3]!, layouts[(d + 1) % 3]!],
        ["rows", "columns"],
        ["columns", "rows"],
      ] as const;
      for (const [i, [first, second]] of pairs.entries()) await check(k, first, second, d + i);
    }
  });
});
