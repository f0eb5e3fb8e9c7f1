import { addRmsNorm, rmsNorm } from "../../lib/ops/rms-norm.js";
import { formatShape } from "../../lib/core/shape.js";
import { add, mapRows, type Nd, normal, zip } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";

const random = new Random(17);

function normalise(x: Nd, eps = 1e-5): Nd {
  return mapRows(x, (row) => {
    const square = row.reduce((a, b) => a + b * b, 0) / row.length;
    return row.map((value) => value / Math.sqrt(square + eps));
  });
}

const scaled = (x: Nd, weight: Nd): Nd => zip(x, weight, (a, w) => a * w);
const scale = (width: number): Nd => normal(random, [width], { offset: 1, scale: 0.5 });

// Widths begin at 2: a row of one element is always ±1, and its gradient almost vanishes.
const shapes = [[2], [3], [17], [31], [33], [63], [65], [257], [5, 33], [2, 3, 65], [70, 17], [3, 1025], [0, 5]];

// The mean square is a sum of squares with an error of a few u; the result divides by its root, which is about 1 or
// more. The gradients subtract one mean from dout·weight, and those of weight and bias are sums over rows.
const tolerance = { out: { relative: 8, absolute: 4 }, grad: { relative: 16, absolute: 16 } };

// The sum with the residual is rounded before it is normalised: an error of one in a number of about 1, which is
// multiplied by weight and gradient.
const roundingsOfSum = { out: { relative: 2, absolute: 1 }, grad: { relative: 2, absolute: 3 } };

opTest({
  name: "rmsNorm",
  cases: shapes.map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape, { scale: 2, offset: 0.5 }), weight: scale(shape.at(-1)!) },
  })),
  ours: ({ x, weight }) => rmsNorm(x, { weight }),
  reference: ({ x, weight }) => scaled(normalise(x), weight),
  tolerance,
  parameters: ["weight"],
});

opTest({
  name: "rmsNorm in the widths of each path",
  cases: [
    [9, 768],
    [3, 2048],
    [2, 8192],
    [2, 8195],
  ].map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape), weight: scale(shape.at(-1)!) },
  })),
  ours: ({ x, weight }) => rmsNorm(x, { weight }),
  reference: ({ x, weight }) => scaled(normalise(x), weight),
  tolerance,
});

opTest({
  name: "rmsNorm without weight, and with bias",
  cases: [[17], [4, 65]].map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape), bias: normal(random, [shape.at(-1)!]) },
  })),
  ours: ({ x, bias }) => [rmsNorm(x), rmsNorm(x, { bias })],
  reference: ({ x, bias }) => [normalise(x), add(normalise(x), bias)],
  tolerance,
  // Two gradients are added, which may cancel.
  roundings: { grad: { relative: 3, absolute: 1 } },
});

opTest({
  name: "rmsNorm with eps",
  cases: [1e-3, 0.5].map((eps) => ({ name: `${eps}`, inputs: { x: normal(random, [3, 17]) }, options: { eps } })),
  ours: ({ x }, _, options) => rmsNorm(x, options),
  reference: ({ x }, _, { eps }) => normalise(x, eps),
  tolerance,
});

opTest({
  name: "addRmsNorm",
  cases: shapes.map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape), residual: normal(random, shape), weight: scale(shape.at(-1)!) },
  })),
  ours: ({ x, residual, weight }) => {
    const { out, sum } = addRmsNorm(x, residual, { weight });
    return [out, sum];
  },
  reference: ({ x, residual, weight }) => {
    const sum = add(x, residual);
    return [scaled(normalise(sum), weight), sum];
  },
  tolerance,
  roundings: roundingsOfSum,
  parameters: ["weight"],
});
