import { expect, test } from "vitest";
import type { FloatTensor } from "../../lib/tensor.js";
import { ones, tensor } from "../../lib/tensor.js";
import * as binary from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { formatShape } from "../../lib/shape.js";
import { fixtureTest } from "../support/fixtures.js";
import { generate, map, type Nd, nonZero, normal, positive, zip } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(2);
type Values = (shape: readonly number[]) => Nd;
const any: Values = (shape) => normal(random, shape);
const apart: Values = (shape) => nonZero(random, shape, { distance: 0.3 });

interface Kind {
  ours: (a: binary.Operand, b: binary.Operand) => FloatTensor;
  f: (a: number, b: number) => number;
  a?: Values;
  b?: Values;
}

const kinds: Record<string, Kind> = {
  add: { ours: binary.add, f: (a, b) => a + b },
  sub: { ours: binary.sub, f: (a, b) => a - b },
  mul: { ours: binary.mul, f: (a, b) => a * b },
  div: { ours: binary.div, f: (a, b) => a / b, b: apart },
  // Values of a on even, of b on odd multiples of 1/32: never equal.
  maximum: { ours: binary.maximum, f: Math.max, a: grid(0), b: grid(1) },
  minimum: { ours: binary.minimum, f: Math.min, a: grid(0), b: grid(1) },
  pow: { ours: binary.pow, f: Math.pow, a: (shape) => positive(random, shape, 0.7) },
};

function grid(offset: number): Values {
  return (shape) => generate(shape, () => (2 * random.integer(64) + offset) / 32 - 2);
}

const shapes: [number[], number[]][] = [
  [[], []],
  [[0], [0]],
  [[1], [1]],
  [[3], [3]],
  [[17], [1]],
  [[31], []],
  [[33], [33]],
  [[65], [65]],
  [[257], [257]],
  [
    [2, 63],
    [2, 63],
  ],
  [[5, 17], [17]],
  [
    [5, 17],
    [5, 1],
  ],
  [
    [9, 1],
    [1, 33],
  ],
  [[3], [4, 2, 3]],
  [
    [2, 1, 3, 1],
    [5, 1, 7],
  ],
  [
    [3, 0],
    [1, 1],
  ],
];

for (const [name, { ours, f, a = any, b = any }] of Object.entries(kinds))
  opTest({
    name,
    cases: shapes.map(([left, right]) => ({
      name: `${formatShape(left)} ${formatShape(right)}`,
      inputs: { a: a(left), b: b(right) },
    })),
    ours: (x) => ours(x.a, x.b),
    reference: (x) => zip(x.a, x.b, f),
    // One rounding, a few for pow and the quotient's gradient; sums over what was stretched, of up to 45 terms that
    // may cancel, against the largest.
    tolerance: { out: { relative: name === "pow" ? 8 : 1, absolute: 0 }, grad: { relative: 12, absolute: 24 } },
    // Gradients are compositions of up to four operations, and sums of their rounded results over what was stretched.
    roundings: { grad: { relative: 6, absolute: 3 } },
  });

for (const kind of ["equal", "greater", "less"] as const)
  opTest({
    name: kind,
    cases: [[0], [1], [33], [5, 65]].map((shape) => {
      const few = (): Nd => generate(shape, () => random.integer(3));
      return { name: formatShape(shape), inputs: { a: few(), b: few() } };
    }),
    ours: ({ a, b }) => binary[kind](a, b),
    reference: ({ a, b }) =>
      zip(a, b, (x, y) => Number(kind === "equal" ? x === y : kind === "greater" ? x > y : x < y)),
    tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 0, absolute: 0 } },
    differentiable: false,
  });

const withNumbers: Record<string, [(x: FloatTensor) => FloatTensor, (x: number) => number]> = {
  "1 − x": [(x) => binary.sub(1, x), (x) => 1 - x],
  "x / 3": [(x) => binary.div(x, 3), (x) => x / 3],
  "2 / x": [(x) => binary.div(2, x), (x) => 2 / x],
};
for (const [name, [ours, f]] of Object.entries(withNumbers))
  opTest({
    name,
    cases: [[], [17], [3, 33]].map((shape) => ({ name: formatShape(shape), inputs: { x: apart(shape) } })),
    ours: ({ x }) => ours(x),
    reference: ({ x }) => map(x, f),
    tolerance: { out: { relative: 1, absolute: 0 }, grad: { relative: 4, absolute: 0 } },
    // The number is rounded too.
    roundings: { out: { relative: 2, absolute: 0 }, grad: { relative: 6, absolute: 0 } },
  });

opTest({
  name: "one tensor as both operands",
  cases: [[], [17], [3, 33]].map((shape) => ({ name: formatShape(shape), inputs: { x: apart(shape) } })),
  ours: ({ x }) => [binary.mul(x, x), binary.sub(x, x), binary.div(x, x)],
  reference: ({ x }) => [map(x, (a) => a * a), map(x, () => 0), map(x, () => 1)],
  // The gradients of x − x and x/x cancel: what is left are roundings of terms as large as g/x.
  tolerance: { out: { relative: 1, absolute: 0 }, grad: { relative: 4, absolute: 16 } },
  roundings: { grad: { relative: 6, absolute: 8 } },
});

fixtureTest("binary", ({ a, b }, _, { options }) => kinds[options.kind as string]!.ours(a!, b!));

test.for(targets)("maximum and minimum share the gradient of a tie on $name", async ({ select, device }) => {
  select();
  for (const op of [binary.maximum, binary.minimum]) {
    using a = ones([3], { device });
    using b = tensor([0, 1, 2], [3], { device });
    a.requiresGrad = b.requiresGrad = true;
    using y = op(a, b);
    using loss = sum(y);
    loss.backward();
    const [da, db] = [await a.grad!.data(), await b.grad!.data()];
    expect([...da]).toEqual(op === binary.maximum ? [1, 0.5, 0] : [0, 0.5, 1]);
    expect([...db]).toEqual(op === binary.maximum ? [0, 0.5, 1] : [1, 0.5, 0]);
  }
});
