import { expect, test } from "vitest";
import type { FloatTensor } from "../../lib/tensor.js";
import { tensor } from "../../lib/creation.js";
import * as unary from "../../lib/ops/unary.js";
import { formatShape } from "../../lib/shape.js";
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
};

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
    tolerance: { out: { relative: 6, absolute: 2 }, grad: { relative: 8, absolute: 4, scale } },
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
    using y = ours(x);
    expect(new Set(await y.data()), name).toEqual(new Set([NaN]));
  }
});
