/**
 * Tests the native matrix product itself at the points where its kernels change: tails of tiles, layouts and
 * alignments, batches, parts of K, and every epilogue, in each dtype.
 *
 * Values are multiples of 1/16 up to 1, which every dtype can represent, and whose products and sums are exact in f32
 * in any order. A result that is not rounded to 16 bits and went through no curved activation must be exactly equal.
 * All memory between and around the elements of an operand is NaN.
 */
import { afterAll, describe, expect, test, vi } from "vitest";
import type { FloatDType } from "../../lib/core/dtype.js";
import { native, ops } from "../../lib/core/native.js";
import { nativeActivations } from "../../lib/core/native-kinds.js";
import { scope } from "../../lib/core/scope.js";
import { contiguousStrides } from "../../lib/core/shape.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectChild } from "../support/child.js";
import { noCuda } from "../support/cuda.js";
import { erf, geluErf, geluTanh, sigmoid, silu } from "../support/functions.js";
import { orders } from "../support/nightly.js";
import { Random } from "../support/random.js";
import { testUnless } from "../support/skip.js";
import { bestIsa, productTargets, targets } from "../support/targets.js";

// There are so few that large tiles serve products of a test's size.
vi.hoisted(() => (process.env.HEED_SIMULATOR_MULTIPROCESSORS = "4"));

/** The layout of an operand in memory: along rows or columns, without gaps or further apart, or neither. */
type Layout =
  | "rows"
  | "columns"
  | "rows + 1"
  | "columns + 1"
  | "rows + 2"
  | "rows to 8"
  | "columns to 8"
  | "spread"
  | "one row"
  | "one column";

interface Case {
  m: number;
  n: number;
  k: number;
  batch?: number[];
  a?: Layout;
  b?: Layout;
  /** Number of elements before a and b. */
  offset?: number;
  /** True if b is one matrix for the whole batch. */
  broadcast?: boolean;
  /** Number of elements between the rows of out, residual, preact and dactPreact. */
  padding?: number;
  bias?: boolean;
  residual?: boolean;
  preact?: boolean;
  dactPreact?: boolean;
  activation?: keyof typeof activations;
  accumulate?: boolean;
  /** Operand whose sums over K are requested too; `accumulateSum` says whether they are added. */
  sum?: "a" | "b";
  accumulateSum?: boolean;
  /** True if out, sum, residual and bias are f32 whatever the dtype of a and b is. */
  wide?: boolean;
}

const upTo = (x: number, multiple: number): number => Math.ceil(x / multiple) * multiple;

/** Returns the distances in elements from row to row, from column to column, and from matrix to matrix. */
function steps(rows: number, columns: number, layout: Layout): [number, number, number] {
  const byRow = (row: number): [number, number, number] => [row, 1, rows * row];
  const byColumn = (column: number): [number, number, number] => [1, column, columns * column];
  switch (layout) {
    case "rows":
      return byRow(columns);
    case "rows + 1":
      return byRow(columns + 1);
    case "rows + 2":
      return byRow(upTo(columns, 2) + 2);
    case "rows to 8":
      return byRow(upTo(columns, 8));
    case "columns":
      return byColumn(rows);
    case "columns + 1":
      return byColumn(rows + 1);
    case "columns to 8":
      return byColumn(upTo(rows, 8));
    case "one row":
      return [0, 1, columns];
    case "one column":
      return [1, 0, rows];
    case "spread":
      return [3 * columns + 2, 3, rows * (3 * columns + 2)];
  }
}

/** Returns the places of a view's elements in its memory, in row-major order. */
function placesOf(shape: number[], strides: number[], offset: number): Int32Array {
  let places = Int32Array.of(offset);
  for (const [d, size] of shape.entries()) {
    const inner = new Int32Array(places.length * size);
    places.forEach((at, i) => {
      for (let j = 0; j < size; j++) inner[i * size + j] = at + j * strides[d]!;
    });
    places = inner;
  }
  return places;
}

/** A view, its elements and their places in its memory. */
class Operand {
  readonly values: Float64Array;
  readonly view: FloatTensor;
  private readonly memory: FloatTensor;
  private readonly places: Int32Array;

  constructor(random: Random, shape: number[], strides: number[], dtype: FloatDType, device: string, offset = 0) {
    this.places = placesOf(shape, strides, offset);
    const memory = new Float32Array(this.places.reduce((last, at) => Math.max(last, at), offset) + 1).fill(NaN);
    for (const at of this.places) memory[at] = (random.integer(33) - 16) / 16;
    this.values = Float64Array.from(this.places, (at) => memory[at]!);
    this.memory = tensor(memory, [memory.length], { dtype, device });
    this.view = this.memory.viewAs(shape, strides, offset);
  }

  dispose(): void {
    this.view.dispose();
    this.memory.dispose();
  }

  /** Reads the elements; the rest of the memory must still be NaN. */
  async read(label: string): Promise<Float32Array> {
    const memory = await this.memory.data();
    const got = Float32Array.from(this.places, (at) => memory[at]!);
    for (const at of this.places) memory[at] = NaN;
    expect(memory.every(Number.isNaN), `${label}: written outside of the view`).toBe(true);
    return got;
  }
}

const tanhGate = (x: number): number => sigmoid(2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3));
const none = (x: number): number => x;
const relu = (x: number): number => Math.max(x, 0);
const activations: Record<keyof typeof nativeActivations, (x: number) => number> = {
  none,
  relu,
  geluTanh,
  geluErf,
  silu,
  sigmoid,
};
const slopes: typeof activations = {
  none: () => 1,
  relu: (x) => Number(x > 0),
  geluTanh: (x) => tanhGate(x) * (1 + x * (1 - tanhGate(x)) * 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x ** 2)),
  geluErf: (x) => 0.5 * (1 + erf(x / Math.SQRT2)) + (x * Math.exp(-(x ** 2) / 2)) / Math.sqrt(2 * Math.PI),
  silu: (x) => sigmoid(x) * (1 + x * sigmoid(-x)),
  sigmoid: (x) => sigmoid(x) * sigmoid(-x),
};

/**
 * Largest change of a number when it is rounded to a dtype: relative, and absolute for small numbers of f16, for which
 * it has fewer bits.
 */
const rounding = { f32: [0, 0], bf16: [2 ** -8, 0], f16: [2 ** -11, 2 ** -25] } as const;

function expectValues(
  label: string,
  got: Float32Array,
  wanted: Float64Array,
  dtype: FloatDType,
  curved: boolean,
): void {
  const [relative, absolute] = rounding[dtype];
  const off = got.findIndex((x, i) => {
    const want = wanted[i]!;
    // Curved activations have an error of a few units in the last place of their argument.
    const tolerance = relative * Math.abs(want) + absolute + (curved ? 4e-7 * Math.max(1, Math.abs(want)) : 0);
    return !(Math.abs(x - want) <= tolerance);
  });
  if (off >= 0) expect.fail(`${label}: expected ${wanted[off]} at ${off}, got ${got[off]}`);
}

interface Expected {
  out: Float64Array;
  preact: Float64Array;
  sum: Float64Array | null;
}

/** Computes the result by definition in float64, in row-major order. */
function reference(c: Case, operands: Record<"a" | "b" | "out", Operand> & Extras): Expected {
  const { m, n, k, activation = "none" } = c;
  const { a, b, bias, residual, dactPreact } = operands;
  const [left, right] = [a.values, b.values];
  const preact = new Float64Array(operands.out.values.length);
  const out = preact.map((_, e) => {
    const [matrix, i, j] = [Math.floor(e / (m * n)), Math.floor(e / n) % m, e % n];
    let x = bias?.values[j] ?? 0;
    for (let p = 0, l = (matrix * m + i) * k, r = matrix * k * n + j; p < k; p++, l++, r += n)
      x += left[l]! * right[r]!;
    preact[e] = x;
    x = dactPreact ? x * slopes[activation](dactPreact.values[e]!) : activations[activation](x);
    return x + (residual?.values[e] ?? 0) + (c.accumulate ? operands.out.values[e]! : 0);
  });
  return { out, preact, sum: operands.sum && sumsOf(c, operands[c.sum!], operands.sum) };
}

/** Expected results of each case. Every dtype can represent the numbers, so they are the same on every target. */
const expected = new Map<Case, Expected>();

/** Returns the expected content of `sum`. */
function sumsOf({ k, sum, accumulateSum }: Case, operand: Operand, before: Operand): Float64Array {
  return before.values.map((old, i) => {
    let total = accumulateSum ? old : 0;
    for (let p = 0; p < k; p++) total += operand.values[sum === "a" ? i * k + p : p * before.values.length + i]!;
    return total;
  });
}

type Extras = Record<"sum" | "bias" | "residual" | "preact" | "dactPreact", Operand | null>;

async function check(c: Case, dtype: FloatDType, device: string): Promise<void> {
  const { m, n, k, batch = [], padding = 0, activation = "none" } = c;
  const label = `${dtype} ${JSON.stringify(c)}`;
  const random = new Random(m * 7919 + n * 104729 + k);
  const made: Operand[] = [];
  const make = (type: FloatDType, shape: number[], strides: number[], offset = 0): Operand => {
    made.push(new Operand(random, shape, strides, type, device, offset));
    return made.at(-1)!;
  };
  const input = (rows: number, columns: number, layout: Layout = "rows", broadcast = false): Operand => {
    const [row, column, size] = steps(rows, columns, layout);
    const outer = contiguousStrides([...batch, size]).slice(0, -1);
    const strides = [...outer.map((stride) => (broadcast ? 0 : stride)), row, column];
    return make(dtype, [...batch, rows, columns], strides, c.offset);
  };
  const matrix = (type: FloatDType): Operand =>
    make(type, [...batch, m, n], contiguousStrides([...batch, m, n + padding]));
  const mixed = c.wide ? "f32" : dtype;
  try {
    const operands = {
      a: input(m, k, c.a),
      b: input(k, n, c.b, c.broadcast),
      out: matrix(mixed),
      sum: c.sum ? make(mixed, [c.sum === "a" ? m : n], [1]) : null,
      bias: c.bias ? make(mixed, [n], [1]) : null,
      residual: c.residual ? matrix(mixed) : null,
      preact: c.preact ? matrix(dtype) : null,
      dactPreact: c.dactPreact ? matrix(dtype) : null,
    };
    if (!expected.has(c)) expected.set(c, reference(c, operands));
    const { out, preact, sum } = expected.get(c)!;
    ops.gemm({
      out: operands.out.view,
      sum: operands.sum?.view,
      a: operands.a.view,
      b: operands.b.view,
      bias: operands.bias?.view,
      residual: operands.residual?.view,
      preact: operands.preact?.view,
      dactPreact: operands.dactPreact?.view,
      activation: nativeActivations[activation],
      sumOfA: c.sum === "a",
      accumulate: c.accumulate,
      accumulateSum: c.accumulateSum,
    });
    expectValues(`${label}: out`, await operands.out.read(label), out, mixed, !["none", "relu"].includes(activation));
    if (operands.sum) expectValues(`${label}: sum`, await operands.sum.read(label), sum!, mixed, false);
    if (operands.preact) expectValues(`${label}: preact`, await operands.preact.read(label), preact, dtype, false);
  } finally {
    for (const operand of made) operand.dispose();
  }
}

const aligned: Layout[] = ["rows", "columns", "rows to 8", "columns to 8"];
const unaligned: Layout[] = ["rows + 1", "columns + 1", "rows + 2", "spread"];
const pairs = (list: Layout[]): Pick<Case, "a" | "b">[] => list.flatMap((a) => list.map((b) => ({ a, b })));

/** Sizes at and around the sides of tiles (16, 64 and 128) and their depths (16, 32 and 64). */
const sizes: [m: number, n: number, k: number][] = [
  [1, 1, 1],
  [2, 3, 0],
  [1, 64, 8],
  [16, 64, 64],
  [17, 65, 33],
  [15, 63, 31],
  [40, 3, 130],
  [129, 130, 40],
];

/** Sizes of up to some tiles of the CPU. */
const sides = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 29, 31, 32, 33, 63, 65, 129];
const drawn = new Random(3);
const side = (): number => sides[drawn.integer(sides.length)]!;

const groups: Record<string, Case[]> = {
  "sizes of every kind": Array.from({ length: 15 }, () => pairs(aligned.slice(0, 2))).flatMap((list) =>
    list.map((layout) => ({ m: side(), n: side(), k: side(), ...layout })),
  ),
  "blocks of rows, columns and K": (["rows", "columns"] as const).flatMap((b) => [
    { m: 190, n: 33, k: 1030, b },
    { m: 33, n: 400, k: 24, b, a: "columns" as const },
  ]),
  "few rows": [1, 3, 5, 8].flatMap((m) =>
    (["rows", "columns"] as const).flatMap((b) => [
      { m, n: 260, k: 67, b },
      { m, n: 3, k: 2100, b },
      { m, n: 515, k: 1, b },
    ]),
  ),
  "repeated rows and columns": pairs(["one row", "one column", "rows"]).map((layout) => ({
    m: 19,
    n: 35,
    k: 24,
    ...layout,
  })),
  sizes: sizes.flatMap(([m, n, k]) => [
    { m, n, k },
    { m, n, k, a: "columns", b: "columns" },
  ]),
  "aligned layouts": pairs(aligned).flatMap((layout) => [
    { m: 13, n: 40, k: 56, ...layout },
    { m: 48, n: 70, k: 45, ...layout },
  ]),
  "large tiles": pairs(aligned.slice(0, 2)).map((layout) => ({ m: 200, n: 264, k: 72, ...layout })),
  "unaligned layouts": [
    ...pairs(unaligned).map((layout) => ({ m: 19, n: 70, k: 45, ...layout })),
    ...unaligned.map((b) => ({ m: 19, n: 70, k: 40, a: "rows" as const, b })),
    ...[1, 2, 4].flatMap((offset) =>
      pairs(aligned.slice(0, 2)).map((layout) => ({ m: 24, n: 40, k: 48, offset, ...layout })),
    ),
  ],
  batches: [
    { m: 5, n: 20, k: 24, batch: [2, 3], a: "columns" },
    { m: 33, n: 20, k: 24, batch: [2, 3], b: "columns", bias: true },
    // With a single matrix b, rows of the batch become rows of one product, except in the last case, whose rows lie
    // apart.
    { m: 5, n: 20, k: 24, batch: [2, 3], broadcast: true, residual: true },
    { m: 1, n: 20, k: 24, batch: [2, 3], broadcast: true, accumulate: true },
    { m: 5, n: 20, k: 24, batch: [2, 3], broadcast: true, a: "columns" },
    { m: 3, n: 4, k: 5, batch: [3, 1, 2, 1, 2, 2], padding: 3, preact: true },
  ],
  "parts of K": [1, 17].flatMap((m) =>
    (["rows", "columns", "spread"] as const).flatMap((b): Case[] => [
      { m, n: 68, k: 1064, b, bias: true, activation: "relu" },
      { m, n: 67, k: 1064, b, preact: true, accumulate: true, wide: true },
    ]),
  ),
  "sums of an operand": (["a", "b"] as const).flatMap((sum) => [
    ...[1, 17, 70, 129].flatMap((m) =>
      pairs(["rows", "columns", "spread"]).map((layout) => ({ m, n: 72, k: 40, sum, ...layout })),
    ),
    ...pairs(aligned.slice(0, 2)).map((layout) => ({ m: 200, n: 264, k: 72, sum, accumulateSum: true, ...layout })),
    ...[1, 17].map((m) => ({ m, n: 67, k: 1064, sum, bias: true, wide: true, accumulateSum: true })),
    { m: 130, n: 64, k: 1064, sum, a: "columns", accumulate: true },
    { m: 5, n: 3, k: 0, sum, accumulateSum: true },
    { m: 5, n: 3, k: 0, sum },
  ]),
  epilogues: (Object.keys(activations) as (keyof typeof activations)[]).flatMap((activation) =>
    [67, 68].flatMap((n): Case[] => [
      { m: 19, n, k: 24, activation, bias: true, preact: true, residual: true, accumulate: true, wide: true },
      { m: 19, n, k: 24, activation, bias: true, preact: true, padding: 4 },
      { m: 19, n, k: 24, activation, dactPreact: true, residual: true, padding: 1 },
      { m: 19, n, k: 24, activation, dactPreact: true, accumulate: true, wide: true },
    ]),
  ),
};

describe.each(["f32", "bf16", "f16"] as const)("gemm of %s", (dtype) => {
  afterAll(() => native.selectIsa(bestIsa));
  for (const [name, cases] of Object.entries(groups))
    test.for(dtype === "bf16" ? productTargets : targets)(`${name} on $name`, async (target) => {
      target.select();
      for (const c of cases) await check(c, dtype, target.device);
    });
});

// The padding of panels and vectors is never part of a sum that is kept.
test.for(productTargets)(
  "values that are not finite reach only the results that depend on them on $name",
  async (target) => {
    target.select();
    const [k, n] = [37, 35];
    for (const dtype of ["f32", "bf16", "f16"] as const)
      for (const m of [1, 3, 33])
        for (const turned of [false, true]) {
          const make = (rows: number, columns: number, bad: number): FloatTensor => {
            const values = new Float32Array(rows * columns).fill(1).with(rows * columns - 1, bad);
            const memory = tensor(values, [rows * columns], { dtype, device: target.device });
            return memory.viewAs([rows, columns], turned ? [1, rows] : [columns, 1]);
          };
          using out = zeros([m, n], { dtype, device: target.device });
          scope(() => ops.gemm({ out, a: make(m, k, Infinity), b: make(k, n, NaN) }));
          const got = await out.data();
          const expected = Float32Array.from(got, (_, i) =>
            i % n === n - 1 ? NaN : Math.floor(i / n) === m - 1 ? Infinity : k,
          );
          expect(got, `${dtype} ${m}`).toEqual(expected);
        }
  },
);

// With each seed of the software device, blocks arrive in another order. The block that adds up the parts must not
// matter.
testUnless(noCuda)("parts of K in any order give the same bits on cuda", async () => {
  const program = `
    const on = { device: "cuda" };
    for (const dtype of ["f32", "bf16"])
      for (const layout of ["io", "oi"]) {
        const x = heed.cast(heed.randn([2100, 65], { seed: 1, ...on }), dtype);
        const weight = heed.parameter(heed.randn(layout === "io" ? [65, 72] : [72, 65], { seed: 2, ...on }));
        const bias = heed.parameter(heed.randn([72], { seed: 3, ...on }));
        const y = heed.linear(x, weight, { bias, layout });
        heed.sum(heed.mul(y, y)).backward();
        const wide = heed.matmul(heed.transpose(x), x);
        for (const tensor of [weight.grad, bias.grad, wide]) {
          const values = await tensor.data();
          if (values.every((x) => x === 0)) throw new Error("expected sums");
          console.log(createHash("sha256").update(Buffer.from(values.buffer)).digest("hex"));
        }
      }
  `;
  const results: string[] = [];
  for (const seed of orders)
    results.push(
      await expectChild(`import { createHash } from "node:crypto"; ${program}`, 0, { HEED_SIMULATOR_SEED: seed }),
    );
  expect(results).toEqual(results.map(() => results[0]));
});

test.for(targets)("gemm refuses an invalid sum on $name", (target) => {
  target.select();
  const make = (shape: number[], dtype: "f32" | "bf16" = "f32") => zeros(shape, { dtype, device: target.device });
  scope(() => {
    const [a, b, out] = [make([4, 5]), make([5, 3]), make([4, 3])];
    const call = (to: FloatTensor, sum: FloatTensor, left = a, right = b) =>
      ops.gemm({ out: to, sum, a: left, b: right, sumOfA: true });
    expect(() => call(out, make([3]))).toThrow("gemm: expected sum of shape [4], got [3]");
    expect(() => call(out, make([4], "bf16"))).toThrow("gemm: expected sum of dtype f32, got bf16");
    expect(() => call(make([4, 0]), make([4]), a, make([5, 0]))).toThrow(
      "gemm: expected out with 2 dimensions and elements if sum is given, got shape [4, 0]",
    );
    expect(() => call(make([2, 4, 3]), make([4]), make([2, 4, 5]), make([2, 5, 3]))).toThrow(
      "gemm: expected out with 2 dimensions and elements if sum is given, got shape [2, 4, 3]",
    );
  });
});

test.for(targets)("bias_backward on $name", async (target) => {
  target.select();
  for (const dtype of ["f32", "bf16", "f16"] as const)
    for (const [rows, columns, wide] of [
      [0, 3, false],
      [1, 1, true],
      [127, 132, false],
      [300, 33, true],
      [1025, 40, false],
    ] as const)
      for (const accumulate of [false, true]) {
        const random = new Random(rows + columns);
        const sum = wide ? "f32" : dtype;
        const dout = new Operand(random, [rows, columns], [columns, 1], dtype, target.device);
        const dbias = new Operand(random, [columns], [1], sum, target.device);
        const wanted = dbias.values.map((x) => (accumulate ? x : 0));
        dout.values.forEach((x, i) => (wanted[i % columns]! += x));
        ops.bias_backward({ dbias: dbias.view, dout: dout.view, accumulate });
        const label = `${dtype} [${rows}, ${columns}]`;
        expectValues(label, await dbias.read(label), wanted, sum, false);
        dout.dispose();
        dbias.dispose();
      }
});
