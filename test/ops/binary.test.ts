import { expect, test } from "vitest";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { ones, tensor, zeros } from "../../lib/core/creation.js";
import * as binary from "../../lib/ops/binary.js";
import { max, mean, sum } from "../../lib/ops/reduce.js";
import { abs } from "../../lib/ops/unary.js";
import { scope } from "../../lib/core/scope.js";
import { formatShape } from "../../lib/core/shape.js";
import { roundTo } from "../support/dtypes.js";
import { fixtureTest } from "../support/fixtures.js";
import { generate, map, type Nd, nonZero, normal, positive, zip } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { devicesTested, targets } from "../support/targets.js";

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
  // Values of a lie on even multiples of 1/32, and those of b on odd ones, so they are never equal.
  maximum: { ours: binary.maximum, f: Math.max, a: grid(0), b: grid(1) },
  minimum: { ours: binary.minimum, f: Math.min, a: grid(0), b: grid(1) },
  pow: { ours: binary.pow, f: Math.pow, a: (shape) => positive(random, shape, 0.7) },
  squaredDifference: { ours: binary.squaredDifference, f: (a, b) => (a - b) ** 2, a: grid(0), b: grid(1) },
  atan2: { ours: binary.atan2, f: Math.atan2, a: apart, b: apart },
  // a is at least 1/32 away from the multiples of b, where the quotient jumps.
  floorMod: { ours: binary.floorMod, f: floorMod, a: grid(1), b: quarters },
};

function floorMod(a: number, b: number): number {
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

function quarters(shape: readonly number[]): Nd {
  return generate(shape, () => (random.integer(2) ? 1 : -1) * (1 + random.integer(4)) * 0.25);
}

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
    // One rounding, or a few for pow and the quotient's gradient. Sums over stretched dimensions have up to 45 terms
    // that may cancel; their error is relative to the largest element.
    tolerance: {
      out: { relative: name === "pow" || name === "atan2" ? 8 : name === "squaredDifference" ? 3 : 1, absolute: 0 },
      grad: { relative: 12, absolute: 24 },
    },
    // Gradients are compositions of up to four operations, and sums of their rounded results over stretched dimensions.
    roundings: { grad: { relative: 6, absolute: 3 } },
  });

const comparisons: Record<string, (a: number, b: number) => boolean> = {
  equal: (a, b) => a === b,
  notEqual: (a, b) => a !== b,
  greater: (a, b) => a > b,
  greaterEqual: (a, b) => a >= b,
  less: (a, b) => a < b,
  lessEqual: (a, b) => a <= b,
  logicalAnd: (a, b) => a !== 0 && b !== 0,
  logicalOr: (a, b) => a !== 0 || b !== 0,
};
for (const [kind, holds] of Object.entries(comparisons))
  opTest({
    name: kind,
    cases: [[0], [1], [33], [5, 65]].map((shape) => {
      const few = (): Nd => generate(shape, () => random.integer(3));
      return { name: formatShape(shape), inputs: { a: few(), b: few() } };
    }),
    ours: ({ a, b }) => binary[kind as "equal"](a, b),
    reference: ({ a, b }) => zip(a, b, (x, y) => Number(holds(x, y))),
    tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 0, absolute: 0 } },
    differentiable: false,
  });

const withNumbers: Record<string, [(x: FloatTensor) => FloatTensor, (x: number) => number]> = {
  "1 − x": [(x) => binary.sub(1, x), (x) => 1 - x],
  "x / 3": [(x) => binary.div(x, 3), (x) => x / 3],
  "2 / x": [(x) => binary.div(2, x), (x) => 2 / x],
  // Numbers that bf16 and f16 cannot represent.
  "x · 1.7": [(x) => binary.mul(x, 1.7), (x) => x * 1.7],
  "|x| to the 1.7": [(x) => binary.pow(abs(x), 1.7), (x) => Math.abs(x) ** 1.7],
  "1.7 to the x": [(x) => binary.pow(1.7, x), (x) => 1.7 ** x],
};
for (const [name, [ours, f]] of Object.entries(withNumbers))
  opTest({
    name,
    cases: [[], [17], [3, 33]].map((shape) => ({ name: formatShape(shape), inputs: { x: apart(shape) } })),
    ours: ({ x }) => ours(x),
    reference: ({ x }) => map(x, f),
    tolerance: { out: { relative: 8, absolute: 0 }, grad: { relative: 12, absolute: 0 } },
    single: false,
  });

opTest({
  name: "an f32 tensor of shape [] as an operand",
  cases: [[], [17], [3, 33]].map((shape) => ({
    name: formatShape(shape),
    inputs: { x: apart(shape), a: generate([], () => 1.7), b: generate([], () => 0.3) },
  })),
  ours: ({ x, a, b }) => binary.sub(binary.mul(a, x), b),
  reference: ({ x, a, b }) => map(x, (x) => a.data[0]! * x - b.data[0]!),
  // The gradients of a and b are sums of up to 99 terms of about 1 that may cancel.
  tolerance: { out: { relative: 2, absolute: 2 }, grad: { relative: 12, absolute: 24, scale: 4 } },
  roundings: { out: { relative: 2, absolute: 2 }, grad: { relative: 6, absolute: 6, scale: 4 } },
  parameters: ["a", "b"],
  single: false,
});

const specials: [name: "bf16" | "f16", (x: FloatTensor) => FloatTensor, x: number, expected: number][] = [
  ["bf16", (x) => binary.pow(x, 1.7), 30, 30 ** 1.7],
  ["f16", (x) => binary.mul(x, 1e5), roundTo("f16", 1e-3), roundTo("f16", 1e-3) * 1e5],
  ["f16", (x) => binary.div(1e6, x), 1000, 1000],
  ["f16", (x) => binary.maximum(x, -1e5), -5, -5],
  ["bf16", (x) => binary.add(x, 256.5), 1.5, 258],
];
test.for(devicesTested)("a number is not rounded to the tensor's 16 bits on $name", async ({ device }) => {
  for (const [dtype, ours, value, expected] of specials) {
    using x = tensor([value], [1], { dtype, device });
    using y = ours(x);
    expect(y.dtype).toBe(dtype);
    expect(await y.item()).toBe(roundTo(dtype, expected));
  }
});

test.for(devicesTested)("the gradient of a mean of more elements than f16 can count on $name", async ({ device }) => {
  using x = zeros([100_000], { dtype: "f16", device });
  x.requiresGrad = true;
  for (const reduce of [mean, max]) {
    x.zeroGrad();
    using y = reduce(x);
    y.backward(1000);
    // The mean gives each element its share of the thousand; so does max, because all elements are the largest.
    const expected = roundTo("f16", 1000 / 100_000);
    expect(new Set(await x.grad!.data())).toEqual(new Set([expected]));
  }
});

// PyTorch's derivatives.yaml: the exponent's gradient is 0 if the base is 0 and the exponent is not negative, and the
// base's gradient is 0 if the exponent is 0.
test.for(targets)("pow has PyTorch's gradients at a base of 0 on $name", async ({ select, device }) => {
  select();
  const cases: [base: number, exponent: number, dbase: number, dexponent: number][] = [
    [0, 0, 0, 0],
    [0, 0.5, Infinity, 0],
    [0, 1, 1, 0],
    [0, 2, 0, 0],
    [0, 3.5, 0, 0],
    [-0, 2, -0, 0],
    [0, -1, -Infinity, -Infinity],
    [2, 0, 0, Math.LN2],
    [-2, 0, 0, NaN],
    [1, -3, -3, 0],
  ];
  for (const dtype of ["f32", "bf16", "f16"] as const) {
    using a = tensor(
      Float32Array.from(cases, ([base]) => base),
      [cases.length],
      { device, dtype },
    );
    using b = tensor(
      Float32Array.from(cases, ([, exponent]) => exponent),
      [cases.length],
      { device, dtype },
    );
    a.requiresGrad = b.requiresGrad = true;
    using loss = scope(() => sum(binary.pow(a, b)));
    loss.backward();
    const [da, db] = [await a.grad!.data(), await b.grad!.data()];
    for (const [i, [base, exponent, dbase, dexponent]] of cases.entries()) {
      const label = `${dtype} ${base} to the ${exponent}`;
      expect(da[i]! + 0, `base's gradient of ${label}`).toBeCloseTo(dbase + 0, 6);
      expect(
        Math.abs(db[i]! - dexponent) <= 2 ** -8 || Object.is(db[i], dexponent),
        `exponent's of ${label}: ${db[i]}`,
      ).toBe(true);
    }
  }
  // The exponent is a number.
  using x = tensor([0, 0], [2], { device });
  x.requiresGrad = true;
  for (const [exponent, expected] of [
    [0, 0],
    [1, 1],
    [2, 0],
  ] as const) {
    x.zeroGrad();
    using loss = scope(() => sum(binary.pow(x, exponent)));
    loss.backward();
    expect([...(await x.grad!.data())]).toEqual([expected, expected]);
  }
});

opTest({
  name: "one tensor as both operands",
  cases: [[], [17], [3, 33]].map((shape) => ({ name: formatShape(shape), inputs: { x: apart(shape) } })),
  ours: ({ x }) => [binary.mul(x, x), binary.sub(x, x), binary.div(x, x)],
  reference: ({ x }) => [map(x, (a) => a * a), map(x, () => 0), map(x, () => 1)],
  // The gradients of x − x and x/x cancel: the rest consists of roundings of terms as large as g/x.
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

test.for(targets)("every pair of special operands on $name", async ({ select, device }) => {
  select();
  const values = [0, -0, 1, -1, Infinity, -Infinity, NaN, 2 ** -149, Math.fround(3e38)];
  const all: Record<string, [Kind["ours"], Kind["f"]]> = {
    ...Object.fromEntries(Object.entries(kinds).map(([name, { ours, f }]) => [name, [ours, f]])),
    // As in C and PyTorch: 1 to any power is 1, and so is -1 to an infinite power.
    pow: [binary.pow, (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b)],
    equal: [binary.equal, (a, b) => Number(a === b)],
    greater: [binary.greater, (a, b) => Number(a > b)],
    less: [binary.less, (a, b) => Number(a < b)],
  };
  using a = tensor(
    values.flatMap((x) => values.map(() => x)),
    [81],
    { device },
  );
  using b = tensor(
    values.flatMap(() => values),
    [81],
    { device },
  );
  for (const [name, [ours, f]] of Object.entries(all)) {
    using y = ours(a, b);
    for (const [i, got] of (await y.data()).entries()) {
      const [x, z] = [values[Math.floor(i / 9)]!, values[i % 9]!];
      const [wanted, label] = [Math.fround(f(x, z)), `${name} of ${x} and ${z}`];
      // The sign of a zero does not matter here. Angles are not rounded correctly.
      if (name !== "atan2" || Number.isNaN(wanted)) expect(got + 0, label).toBe(wanted + 0);
      else expect(Math.abs(got - wanted), label).toBeLessThanOrEqual(Math.abs(wanted) * 2 ** -21);
    }
  }
});

test.for(targets)("quotients rounded down, and what is left, on $name", async ({ select, device }) => {
  select();
  const pairs: [a: number, b: number, quotient: number, rest: number][] = [
    [7, 2, 3, 1],
    [-7, 2, -4, 1],
    [7, -2, -4, -1],
    [-7, -2, 3, -1],
    [6, 3, 2, 0],
    [-6, 3, -2, 0],
    [0.5, 8, 0, 0.5],
    [-0.5, 8, -1, 7.5],
    // The quotient is a little less than 30, to which f32 rounds it.
    [3, Math.fround(0.1), 29, 3 - 29 * Math.fround(0.1)],
    // Divisions in f32 are off by one for quotients from 2²² on.
    [-13082319, Math.fround(1.5894829), -8230551, floorMod(-13082319, Math.fround(1.5894829))],
    [-60920888, Math.fround(-1.141905), 53350224, floorMod(-60920888, Math.fround(-1.141905))],
    [1, Infinity, 0, 1],
    [-1, Infinity, -1, Infinity],
    [1, 0, Infinity, NaN],
    [-1, 0, -Infinity, NaN],
    [NaN, 2, NaN, NaN],
  ];
  const column = (i: 0 | 1): FloatTensor =>
    tensor(
      Float32Array.from(pairs, (pair) => pair[i]),
      [pairs.length],
      { device },
    );
  const [a, b] = [column(0), column(1)];
  const [quotients, rests] = [await binary.floorDiv(a, b).data(), await binary.floorMod(a, b).data()];
  for (const [i, [x, y, quotient, rest]] of pairs.entries()) {
    expect(quotients[i]! + 0, `${x} over ${y}`).toBe(quotient);
    expect(rests[i]! + 0, `rest of ${x} over ${y}`).toBe(rest);
  }
});

test.for(targets)("comparisons with NaN on $name", async ({ select, device }) => {
  select();
  using a = tensor([NaN, 1, NaN], [3], { device });
  using b = tensor([1, NaN, NaN], [3], { device });
  for (const kind of Object.keys(comparisons)) {
    using y = binary[kind as "equal"](a, b);
    const expected = kind === "notEqual" || kind.startsWith("logical") ? 1 : 0;
    expect([...(await y.data())], kind).toEqual([expected, expected, expected]);
  }
});
