/**
 * Tests matrix products of f32 rounded to tf32 against products, in float64, of operands rounded in the same way. It
 * covers every layout and tile, sums of an operand, which are not rounded, and that tf32 is used only on request.
 */
import { afterEach, describe, expect, test, vi } from "vitest";
import { setTf32, tf32 } from "../../lib/core/device.js";
import { ops } from "../../lib/core/native.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectChild } from "../support/child.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

// There are so few that large tiles serve products of a test's size.
vi.hoisted(() => (process.env.HEED_SIMULATOR_MULTIPROCESSORS = "4"));

afterEach(() => setTf32(false));

/** Rounds to ten bits after the point, with ties away from zero. */
function rounded(values: Float32Array): Float32Array {
  const bits = new Uint32Array(Float32Array.from(values).buffer);
  return new Float32Array(bits.map((x) => (x + 0x1000) & ~0x1fff).buffer);
}

interface Operand {
  values: Float32Array;
  /** [rows, columns], in any layout. */
  view: FloatTensor;
}

function operand(random: Random, rows: number, columns: number, transposed: boolean, device: string): Operand {
  const values = Float32Array.from({ length: rows * columns }, () => random.normal());
  const memory = new Float32Array(values.length);
  values.forEach((x, i) => {
    memory[transposed ? (i % columns) * rows + Math.floor(i / columns) : i] = x;
  });
  const view = tensor(memory, [rows * columns], { device }).viewAs(
    [rows, columns],
    transposed ? [1, rows] : [columns, 1],
  );
  return { values, view };
}

/** Returns Σ_k a[i, k] · b[k, j] and Σ_k |a[i, k] · b[k, j]|. */
function product(a: Float32Array, b: Float32Array, m: number, n: number, k: number): [Float64Array, Float64Array] {
  const [sums, magnitudes] = [new Float64Array(m * n), new Float64Array(m * n)];
  for (let i = 0; i < m; i++)
    for (let p = 0; p < k; p++)
      for (let j = 0; j < n; j++) {
        const term = a[i * k + p]! * b[p * n + j]!;
        sums[i * n + j]! += term;
        magnitudes[i * n + j]! += Math.abs(term);
      }
  return [sums, magnitudes];
}

/**
 * Returns the largest error of `got`, in units of the allowed error of a sum of k terms in f32: k · 2⁻²⁴ · Σ|terms|.
 */
function off(got: Float32Array, wanted: Float64Array, magnitudes: Float64Array, k: number): number {
  return got.reduce(
    (most, x, i) => Math.max(most, Math.abs(x - wanted[i]!) / ((k + 8) * 2 ** -24 * magnitudes[i]! + 1e-30)),
    0,
  );
}

const cuda = targets.filter(({ device }) => device.startsWith("cuda"));
const sizes: [m: number, n: number, k: number, what: string][] = [
  [20, 24, 40, "one small tile"],
  [68, 72, 36, "tails of small tiles"],
  [200, 264, 72, "large tiles"],
  [132, 136, 1064, "parts of K"],
];

describe.each(cuda)("tf32 on $name", ({ device }) => {
  test.each(sizes)("%i × %i × %i: %s", async (m, n, k) => {
    for (const [left, right] of [
      [false, false],
      [false, true],
      [true, false],
      [true, true],
    ] as const)
      for (const of of ["a", "b"] as const) {
        const random = new Random(m + n + k);
        const a = operand(random, m, k, left, device);
        const b = operand(random, k, n, right, device);
        using out = zeros([m, n], { device });
        using sum = zeros([of === "a" ? m : n], { device });
        setTf32(true);
        ops.gemm({ out, sum, a: a.view, b: b.view, sumOfA: of === "a" });
        setTf32(false);
        const got = await out.data();
        const [wanted, magnitudes] = product(rounded(a.values), rounded(b.values), m, n, k);
        expect(off(got, wanted, magnitudes, k), `a ${left}, b ${right}`).toBeLessThan(1);
        const [exact] = product(a.values, b.values, m, n, k);
        const rounding = off(got, wanted, magnitudes, k);
        expect(off(got, exact, magnitudes, k), "rounded at all").toBeGreaterThan(5 * rounding);

        // A column of ones takes the place of the other operand.
        const ones = new Float32Array(k).fill(1);
        const [sums, terms] = of === "a" ? product(a.values, ones, m, 1, k) : product(ones, b.values, 1, n, k);
        expect(off(await sum.data(), sums, terms, k), `sums of ${of}`).toBeLessThan(1);
      }
  });

  test("is used only on request, and not for unaligned operands", async () => {
    expect(tf32()).toBe(false);
    for (const [allowed, m, n, k] of [
      [false, 68, 72, 36],
      [true, 68, 72, 35],
    ] as const) {
      setTf32(allowed);
      const random = new Random(1);
      const a = operand(random, m, k, false, device);
      const b = operand(random, k, n, true, device);
      using out = zeros([m, n], { device });
      ops.gemm({ out, a: a.view, b: b.view });
      const [wanted, magnitudes] = product(a.values, b.values, m, n, k);
      expect(off(await out.data(), wanted, magnitudes, k)).toBeLessThan(1);
    }
  });

  test("values that are not finite stay in their row and column", async () => {
    const ones = new Float32Array(32 * 32).fill(1);
    const values = Float32Array.from(ones);
    values[3 * 32 + 5] = Infinity;
    values[7 * 32 + 6] = NaN;
    using a = tensor(values, [32, 32], { device });
    using b = tensor(ones, [32, 32], { device });
    using out = zeros([32, 32], { device });
    setTf32(true);
    ops.gemm({ out, a, b });
    const got = await out.data();
    got.forEach((x, i) => {
      const row = Math.floor(i / 32);
      expect(x).toBe(row === 3 ? Infinity : row === 7 ? NaN : 32);
    });
  });
});

test("setTf32 takes a boolean, HEED_TF32=1 sets it", async () => {
  expect(() => setTf32(1 as never)).toThrow("setTf32: expected true or false, got 1");
  setTf32(true);
  expect(tf32()).toBe(true);
  const print = "console.log(heed.tf32())";
  expect(await expectChild(print, 0, { HEED_TF32: "1" })).toBe("true");
  expect(await expectChild(print, 0, { HEED_TF32: "0" })).toBe("false");
});
