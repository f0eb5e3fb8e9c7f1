import { expect, test } from "vitest";
import { addLayerNorm, layerNorm } from "../../lib/ops/layer-norm.js";
import { full, tensor } from "../../lib/core/creation.js";
import { formatShape } from "../../lib/core/shape.js";
import { expectClose } from "../support/close.js";
import { fixtureTest } from "../support/fixtures.js";
import { add, mapRows, type Nd, normal, zip } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(7);

function normalise(x: Nd, eps = 1e-5): Nd {
  return mapRows(x, (row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length;
    return row.map((value) => (value - mean) / Math.sqrt(variance + eps));
  });
}

const affine = (x: Nd, weight: Nd, bias: Nd): Nd =>
  add(
    zip(x, weight, (a, w) => a * w),
    bias,
  );
const weights = (width: number) => ({
  weight: normal(random, [width], { offset: 1, scale: 0.5 }),
  bias: normal(random, [width]),
});

// Widths begin at 3: rows of two differ from ±1 only by roundings of a few units, and their gradients almost vanish.
const shapes = [[3], [17], [31], [33], [63], [65], [257], [5, 33], [2, 3, 65], [70, 17], [3, 1025], [2, 4115], [0, 5]];

// Mean and variance are centred sums with errors of a few u; the result divides by the deviation, which is about 1. The
// gradients subtract two means from dout·weight, and those of weight and bias are sums over rows.
const tolerance = { out: { relative: 8, absolute: 4 }, grad: { relative: 16, absolute: 16 } };

// The sum with the residual is rounded before it is normalised: an error of one in a number of about 1, which is
// multiplied by weight and gradient.
const roundingsOfSum = { out: { relative: 2, absolute: 1 }, grad: { relative: 2, absolute: 3 } };

opTest({
  name: "layerNorm",
  cases: shapes.map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape, { scale: 2, offset: 0.5 }), ...weights(shape.at(-1)!) },
  })),
  ours: ({ x, weight, bias }) => layerNorm(x, { weight, bias }),
  reference: ({ x, weight, bias }) => affine(normalise(x), weight, bias),
  tolerance,
  parameters: ["weight", "bias"],
});

opTest({
  name: "layerNorm without weights",
  cases: [[17], [4, 65]].map((shape) => ({ name: formatShape(shape), inputs: { x: normal(random, shape) } })),
  ours: ({ x }) => layerNorm(x),
  reference: ({ x }) => normalise(x),
  tolerance,
});

opTest({
  name: "layerNorm with one of weight and bias",
  cases: [{ name: "[4, 33]", inputs: { x: normal(random, [4, 33]), ...weights(33) } }],
  ours: ({ x, weight, bias }) => [layerNorm(x, { weight }), layerNorm(x, { bias })],
  reference: ({ x, weight, bias }) => [zip(normalise(x), weight, (a, w) => a * w), add(normalise(x), bias)],
  tolerance,
  // Two gradients are added, which may cancel.
  roundings: { grad: { relative: 3, absolute: 1 } },
});

opTest({
  name: "layerNorm with eps",
  cases: [1e-3, 0.5].map((eps) => ({ name: `${eps}`, inputs: { x: normal(random, [3, 17]) }, options: { eps } })),
  ours: ({ x }, _, options) => layerNorm(x, options),
  reference: ({ x }, _, { eps }) => normalise(x, eps),
  tolerance,
});

opTest({
  name: "addLayerNorm",
  cases: shapes.map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape), residual: normal(random, shape), ...weights(shape.at(-1)!) },
  })),
  ours: ({ x, residual, weight, bias }) => {
    const { out, sum } = addLayerNorm(x, residual, { weight, bias });
    return [out, sum];
  },
  reference: ({ x, residual, weight, bias }) => {
    const sum = add(x, residual);
    return [affine(normalise(sum), weight, bias), sum];
  },
  tolerance,
  roundings: roundingsOfSum,
  parameters: ["weight", "bias"],
});

opTest({
  name: "addLayerNorm of which only one result is used",
  cases: ["out", "sum"].map((used) => ({
    name: used,
    inputs: { x: normal(random, [3, 33]), residual: normal(random, [3, 33]) },
    options: used as "out" | "sum",
  })),
  ours: ({ x, residual }, _, used) => addLayerNorm(x, residual)[used],
  reference: ({ x, residual }, _, used) => (used === "sum" ? add(x, residual) : normalise(add(x, residual))),
  tolerance,
  roundings: roundingsOfSum,
  single: false,
});

opTest({
  name: "addLayerNorm of a tensor and itself",
  cases: [{ name: "[3, 33]", inputs: { x: normal(random, [3, 33]) } }],
  ours: ({ x }) => {
    const { out, sum } = addLayerNorm(x, x);
    return [out, sum];
  },
  reference: ({ x }) => [normalise(add(x, x)), add(x, x)],
  tolerance,
  roundings: roundingsOfSum,
});

fixtureTest("layer-norm", ({ x, residual, weight, bias }, _, { options }) => {
  const given = { weight: weight ?? null, bias: bias ?? null, ...options };
  if (!residual) return layerNorm(x!, given);
  const { out, sum } = addLayerNorm(x!, residual, given);
  return [out, sum];
});

test.for(targets)("a constant row gives the bias on $name", async ({ select, device }) => {
  select();
  for (const width of [1, 7, 64, 1000]) {
    using x = full([2, width], 12345.678, { device });
    using bias = full([width], 0.25, { device });
    using y = layerNorm(x, { bias });
    for (const value of await y.data()) expect(value).toBeCloseTo(0.25, 6);
  }
});

test.for(targets)("rows of any width far from 0, and a NaN in one of them, on $name", async ({ select, device }) => {
  select();
  // The deviation is close to the rounding of the mean, which must not enter the variance.
  for (const [width, scale] of [
    [17, 2],
    [767, 0.01],
    [4097, 0.01],
    [65536, 2],
  ] as const)
    for (const offset of [1e4, -100, 0]) {
      const x = normal(random, [3, width], { scale, offset });
      const expected = normalise(x);
      x.data.fill(NaN, width, width + 1);
      expected.data.fill(NaN, width, 2 * width);
      using given = tensor(x.data, x.shape, { device });
      using y = layerNorm(given);
      // Centred sums over rows in at least 16 lanes.
      const tolerance = { relative: 0, absolute: 16 + 2 * Math.sqrt(width / 16) };
      expectClose(`[3, ${width}] around ${offset}`, await y.data(), expected.data, tolerance, 4);
    }
});
