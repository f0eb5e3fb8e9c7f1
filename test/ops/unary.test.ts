import { expect, test } from "vitest";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { tensor } from "../../lib/core/creation.js";
import * as unary from "../../lib/ops/unary.js";
import { formatShape } from "../../lib/core/shape.js";
import { u } from "../support/close.js";
import { fixtureTest } from "../support/fixtures.js";
import * as f64 from "../support/functions.js";
import { generate, map, type Nd, nonZero, normal, positive } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(1);

interface Kind {
  ours: (x: FloatTensor) => FloatTensor;
  f: (x: number) => number;
  /** Makes inputs in the function's domain, away from kinks and poles. */
  values?: (shape: readonly number[]) => Nd;
  /** Size of the terms of the slope, if they cancel. */
  scale?: number;
}

const kinds: Record<string, Kind> = {
  neg: { ours: unary.neg, f: (x) => -x },
  exp: { ours: unary.exp, f: Math.exp },
  log: { ours: unary.log, f: Math.log, values: (shape) => positive(random, shape) },
  sqrt: { ours: unary.sqrt, f: Math.sqrt, values: (shape) => positive(random, shape) },
  rsqrt: { ours: unary.rsqrt, f: (x) => 1 / Math.sqrt(x), values: (shape) => positive(random, shape) },
  square: { ours: unary.square, f: (x) => x * x },
  abs: { ours: unary.abs, f: Math.abs, values: (shape) => nonZero(random, shape) },
  tanh: { ours: unary.tanh, f: Math.tanh },
  sigmoid: { ours: unary.sigmoid, f: f64.sigmoid },
  relu: { ours: unary.relu, f: f64.relu, values: (shape) => nonZero(random, shape) },
  "gelu, tanh": { ours: (x) => unary.gelu(x), f: f64.geluTanh, values: aboveTail, scale: 1 },
  "gelu, erf": { ours: (x) => unary.gelu(x, "erf"), f: f64.geluErf, values: aboveTail, scale: 1 },
  silu: { ours: unary.silu, f: f64.silu },
  sin: { ours: unary.sin, f: Math.sin, values: (shape) => normal(random, shape, { scale: 5 }) },
  cos: { ours: unary.cos, f: Math.cos, values: (shape) => normal(random, shape, { scale: 5 }) },
  eluPlusOne: { ours: unary.eluPlusOne, f: (x) => (x > 0 ? x + 1 : Math.exp(x)) },
  reciprocal: { ours: unary.reciprocal, f: (x) => 1 / x, values: (shape) => nonZero(random, shape, { distance: 0.3 }) },
  // Beyond, the relative error of the slope is that of an exponential of a rounded x².
  erf: { ours: unary.erf, f: f64.erf, values: between(-2.5, 2.5) },
  // Away from the poles, near which the rounding of π/2 is what counts.
  tan: { ours: unary.tan, f: Math.tan, values: between(-1.4, 1.4) },
  asin: { ours: unary.asin, f: Math.asin, values: between(-0.95, 0.95) },
  acos: { ours: unary.acos, f: Math.acos, values: between(-0.95, 0.95) },
  atan: { ours: unary.atan, f: Math.atan },
  sinh: { ours: unary.sinh, f: Math.sinh },
  cosh: { ours: unary.cosh, f: Math.cosh },
  asinh: { ours: unary.asinh, f: Math.asinh },
  acosh: { ours: unary.acosh, f: Math.acosh, values: between(1.1, 6) },
  atanh: { ours: unary.atanh, f: Math.atanh, values: between(-0.95, 0.95) },
  expm1: { ours: unary.expm1, f: Math.expm1 },
  log1p: { ours: unary.log1p, f: Math.log1p, values: between(-0.9, 4) },
  softplus: { ours: unary.softplus, f: f64.softplus },
  elu: { ours: unary.elu, f: (x) => (x > 0 ? x : Math.expm1(x)) },
  selu: { ours: unary.selu, f: f64.selu, values: (shape) => nonZero(random, shape) },
  relu6: {
    ours: unary.relu6,
    f: (x) => Math.min(Math.max(x, 0), 6),
    values: (shape) => nonZero(random, shape, { scale: 5 }),
  },
  // In the middle between two kinks of round, floor and ceil, which lie at multiples of 1/2.
  round: { ours: unary.round, f: Math.round, values: quarters },
  floor: { ours: unary.floor, f: Math.floor, values: quarters },
  ceil: { ours: unary.ceil, f: Math.ceil, values: quarters },
  sign: { ours: unary.sign, f: Math.sign, values: (shape) => nonZero(random, shape) },
};

/** Makes numbers of a range. */
function between(low: number, high: number): (shape: readonly number[]) => Nd {
  return (shape) => generate(shape, () => low + (high - low) * random.uniform());
}

function quarters(shape: readonly number[]): Nd {
  return generate(shape, () => random.integer(12) / 2 - 2.75);
}

/** Functions whose value for NaN is a number. */
const numberForNaN = new Set(["sign"]);
/** The C library's functions and those of CUDA are off by up to 4 units in the last place. */
const ofLibraries = new Set(["tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"]);

const wide = (shape: readonly number[]): Nd => normal(random, shape, { scale: 2 });

/**
 * Returns numbers above the range in which gelu almost vanishes: its relative error there is that of an exponential of
 * a rounded x².
 */
function aboveTail(shape: readonly number[]): Nd {
  return generate(shape, () => Math.max(-2.5, 2 * random.normal()));
}

const shapes = [[], [0], [1], [2], [3], [17], [31], [33], [63], [65], [257], [3, 0], [5, 33]];

for (const [name, { ours, f, values = wide, scale = 0 }] of Object.entries(kinds))
  opTest({
    name,
    cases: shapes.map((shape) => ({ name: formatShape(shape), inputs: { x: values(shape) } })),
    ours: ({ x }) => ours(x),
    reference: ({ x }) => map(x, f),
    // A polynomial and a few operations around it, each with an error of half a unit in the last place (2 u at worst),
    // and the product with the upstream gradient. If terms cancel (sin near π, the gelu slope near −0.75), the error is
    // relative to the largest element.
    tolerance: {
      out: { relative: ofLibraries.has(name) ? 9 : 6, absolute: 2 },
      grad: { relative: ofLibraries.has(name) ? 12 : 8, absolute: 4, scale },
    },
  });

fixtureTest("unary", ({ x }, _, { name }) =>
  name === "geluTanh"
    ? unary.gelu(x!)
    : name === "geluErf"
      ? unary.gelu(x!, "erf")
      : (unary[name as keyof typeof unary] as (x: FloatTensor) => FloatTensor)(x!),
);

/** Arguments for which naive formulas overflow or lose all digits: x, value, slope. */
const extremes: Record<string, [number, number, number][]> = {
  exp: [
    [-Infinity, 0, 0],
    [-200, 0, 0],
    [88.7, Math.exp(Math.fround(88.7)), Math.exp(Math.fround(88.7))],
    [89, Infinity, Infinity],
    [Infinity, Infinity, Infinity],
  ],
  log: [
    [0, -Infinity, Infinity],
    [-1, NaN, -1],
    [Infinity, Infinity, 0],
    [1e-38, Math.log(Math.fround(1e-38)), 1 / Math.fround(1e-38)],
  ],
  sqrt: [
    [0, 0, Infinity],
    [-1, NaN, NaN],
  ],
  rsqrt: [
    [0, Infinity, -Infinity],
    [Infinity, 0, 0],
  ],
  cos: [[Infinity, NaN, NaN]],
  tanh: [
    [Infinity, 1, 0],
    [-Infinity, -1, 0],
    [100, 1, 0],
    [-100, -1, 0],
    [1e-6, 1e-6, 1],
  ],
  sigmoid: [
    [-Infinity, 0, 0],
    [Infinity, 1, 0],
    [-80, Math.exp(-80), Math.exp(-80)],
    [200, 1, 0],
  ],
  relu: [
    [-Infinity, 0, 0],
    [Infinity, Infinity, 1],
    [0, 0, 0],
    [NaN, NaN, NaN],
  ],
  silu: [
    [-300, 0, 0],
    [300, 300, 1],
    [-Infinity, 0, 0],
    [Infinity, Infinity, 1],
  ],
  "gelu, tanh": [
    [-Infinity, 0, 0],
    [Infinity, Infinity, 1],
    [-50, 0, 0],
    [50, 50, 1],
    [0, 0, 0.5],
  ],
  "gelu, erf": [
    [-Infinity, 0, 0],
    [Infinity, Infinity, 1],
    [-50, 0, 0],
    [50, 50, 1],
    [0, 0, 0.5],
  ],
  eluPlusOne: [
    [-Infinity, 0, 0],
    [-80, Math.exp(-80), Math.exp(-80)],
    [0, 1, 1],
    [1e30, 1e30, 1],
  ],
  abs: [
    [0, 0, 0],
    [-Infinity, Infinity, -1],
  ],
  reciprocal: [
    [Infinity, 0, 0],
    [0, Infinity, -Infinity],
  ],
  erf: [
    [-Infinity, -1, 0],
    [20, 1, 0],
    [1e-30, (2 / Math.sqrt(Math.PI)) * 1e-30, 2 / Math.sqrt(Math.PI)],
  ],
  asin: [
    [1, Math.PI / 2, Infinity],
    [2, NaN, NaN],
  ],
  acos: [
    [-1, Math.PI, -Infinity],
    [-2, NaN, NaN],
  ],
  atan: [
    [Infinity, Math.PI / 2, 0],
    [-Infinity, -Math.PI / 2, 0],
  ],
  sinh: [
    [-100, -Infinity, Infinity],
    [1e-6, 1e-6, 1],
  ],
  cosh: [[-100, Infinity, -Infinity]],
  asinh: [
    [1e-6, 1e-6, 1],
    [-1e6, -Math.asinh(1e6), 1e-6],
  ],
  acosh: [
    [1, 0, Infinity],
    [0.5, NaN, NaN],
    [Infinity, Infinity, 0],
  ],
  atanh: [
    [-1, -Infinity, Infinity],
    [1.5, NaN, NaN],
  ],
  expm1: [
    [-Infinity, -1, 0],
    [1e-10, 1e-10, 1],
    [88.7, Math.exp(Math.fround(88.7)), Math.exp(Math.fround(88.7))],
    [Infinity, Infinity, Infinity],
  ],
  log1p: [
    [-1, -Infinity, Infinity],
    [-2, NaN, -1],
    [1e-10, 1e-10, 1],
    [1e30, Math.log(1e30), 1e-30],
    [Infinity, Infinity, 0],
  ],
  softplus: [
    [-Infinity, 0, 0],
    [-50, Math.exp(-50), Math.exp(-50)],
    [50, 50, 1],
    [Infinity, Infinity, 1],
  ],
  elu: [
    [-1e-10, -1e-10, 1],
    [-Infinity, -1, 0],
    [Infinity, Infinity, 1],
  ],
  relu6: [
    [-Infinity, 0, 0],
    [Infinity, 6, 0],
  ],
  round: [
    [0.5, 0, 0],
    [1.5, 2, 0],
    [-2.5, -2, 0],
    [4194304.5, 4194304, 0],
    [8388607.5, 8388608, 0],
    [1e30, 1e30, 0],
    [-Infinity, -Infinity, 0],
  ],
  floor: [
    [-0.3, -1, 0],
    [4194304.5, 4194304, 0],
    [-8388607.5, -8388608, 0],
    [Infinity, Infinity, 0],
  ],
  ceil: [
    [0.3, 1, 0],
    [-4194304.5, -4194304, 0],
    [8388606.5, 8388607, 0],
    [1e30, 1e30, 0],
  ],
  sign: [
    [0, 0, 0],
    [NaN, 0, 0],
    [-Infinity, -1, 0],
  ],
};

for (const [name, rows] of Object.entries(extremes))
  test.for(targets)(`${name} at its extremes on $name`, async ({ select, device }) => {
    select();
    for (const [at, value, slope] of rows) {
      using x = tensor([at], [1], { device });
      x.requiresGrad = true;
      using y = kinds[name]!.ours(x);
      y.backward();
      const near = (got: number, want: number, what: string): void => {
        if (Number.isFinite(want) && want !== 0)
          expect(Math.abs(got / want - 1), `${name}(${at}) ${what}: ${got}`).toBeLessThan(6 * u);
        else if (want === 0) expect(Math.abs(got), `${name}(${at}) ${what}`).toBeLessThan(1e-30);
        else expect(got, `${name}(${at}) ${what}`).toBe(want);
      };
      near(await y.item(), value, "value");
      if (!Number.isNaN(slope)) near(await x.grad!.item(), slope, "slope");
    }
  });

test.for(targets)("NaN stays NaN on $name", async ({ select, device }) => {
  select();
  using x = tensor(new Float32Array(19).fill(NaN), [19], { device });
  for (const [name, { ours }] of Object.entries(kinds)) {
    if (numberForNaN.has(name)) continue;
    using y = ours(x);
    expect(new Set(await y.data()), name).toEqual(new Set([NaN]));
  }
});

test.for(targets)("tests of numbers on $name", async ({ select, device }) => {
  select();
  for (const dtype of ["f32", "bf16", "f16"] as const) {
    using x = tensor([0, -0, 1, NaN, Infinity, -Infinity, -2], [7], { device, dtype });
    using nan = unary.isNan(x);
    using infinite = unary.isInf(x);
    using finite = unary.isFinite(x);
    expect(nan.dtype).toBe(dtype);
    expect([...(await nan.data())]).toEqual([0, 0, 0, 1, 0, 0, 0]);
    expect([...(await infinite.data())]).toEqual([0, 0, 0, 0, 1, 1, 0]);
    expect([...(await finite.data())]).toEqual([1, 1, 1, 0, 0, 0, 1]);
  }
});
