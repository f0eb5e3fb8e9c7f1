import { expect, test } from "vitest";
import { max, mean, type ReduceOptions, sum } from "../../lib/ops/reduce.js";
import { transpose as transposed } from "../../lib/ops/views.js";
import { numel, formatShape } from "../../lib/core/shape.js";
import { full, tensor } from "../../lib/core/creation.js";
import { expectClose } from "../support/close.js";
import { fixtureTest } from "../support/fixtures.js";
import { distinct, type Nd, normal, reshape, transpose } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(3);

/** Reduces rows, after moving the reduced axes to the end. */
function reference(x: Nd, { axes, keepDims }: ReduceOptions, row: (values: Float64Array) => number): Nd {
  const rank = x.shape.length;
  const reduced = axes ? axes.map((axis) => (axis < 0 ? axis + rank : axis)) : [...x.shape.keys()];
  const kept = [...x.shape.keys()].filter((axis) => !reduced.includes(axis));
  const moved = transpose(x, [...kept, ...reduced]);
  const width = numel(reduced.map((axis) => x.shape[axis]!));
  const data = Float64Array.from({ length: numel(kept.map((axis) => x.shape[axis]!)) }, (_, r) =>
    row(moved.data.subarray(r * width, (r + 1) * width)),
  );
  const shape = keepDims ? x.shape.map((n, axis) => (reduced.includes(axis) ? 1 : n)) : kept.map((i) => x.shape[i]!);
  return reshape({ shape: [data.length], data }, shape);
}

const total = (values: Float64Array): number => values.reduce((a, b) => a + b, 0);

const cases: [number[], ReduceOptions][] = [
  [[], {}],
  [[1], {}],
  [[2], {}],
  [[3], { keepDims: true }],
  [[17], {}],
  [[31], {}],
  [[33], {}],
  [[65], {}],
  [[257], {}],
  [[5, 63], { axes: [1] }],
  [[5, 63], { axes: [0] }],
  [[63, 5], { axes: [-1], keepDims: true }],
  [[257, 3], { axes: [0] }],
  [[3, 257], { axes: [-1] }],
  [[4, 5, 6], { axes: [1] }],
  [[4, 5, 6], { axes: [0, 2] }],
  [[4, 5, 6], { axes: [2, 0], keepDims: true }],
  [[4, 5, 6], { axes: [] }],
  [[2, 3, 1, 4, 5], { axes: [0, 3] }],
];
const long: [number[], ReduceOptions][] = [
  [[1025, 18], { axes: [0] }],
  [[3, 2100], { axes: [1] }],
];
const empty: [number[], ReduceOptions][] = [
  [[0], {}],
  [[3, 0], { axes: [1] }],
  [[0, 3], { axes: [0], keepDims: true }],
];

const named = (list: typeof cases, values: (shape: readonly number[]) => Nd) =>
  list.map(([shape, options]) => ({
    name: `${formatShape(shape)} ${JSON.stringify(options)}`,
    inputs: { x: values(shape) },
    options,
  }));

// Sums of up to 257 terms that may cancel to a tenth of their size; blocks of f32 additions give an error of a few u of
// that.
const tolerance = { out: { relative: 16, absolute: 16 }, grad: { relative: 2, absolute: 0 } };

opTest({
  name: "sum",
  cases: named([...cases, ...long, ...empty], (shape) => normal(random, shape)),
  ours: ({ x }, _, options) => sum(x, options),
  reference: ({ x }, _, options) => reference(x, options, total),
  tolerance,
});

opTest({
  name: "mean",
  cases: named([...cases, ...long], (shape) => normal(random, shape)),
  ours: ({ x }, _, options) => mean(x, options),
  reference: ({ x }, _, options) => reference(x, options, (row) => total(row) / row.length),
  tolerance,
});

opTest({
  name: "max",
  cases: named(cases, (shape) => distinct(random, shape)),
  ours: ({ x }, _, options) => max(x, options),
  reference: ({ x }, _, options) => reference(x, options, (row) => row.reduce((a, b) => Math.max(a, b), -Infinity)),
  tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 2, absolute: 0 } },
});

fixtureTest("reduce", ({ x }, _, { options }) => {
  const { kind, axes } = options as { kind: "sum" | "mean" | "max"; axes: number[] };
  return { sum, mean, max }[kind](x!, { axes });
});

test.for(targets)("max shares the gradient among ties on $name", async ({ select, device }) => {
  select();
  using x = tensor([3, 1, 3, 3, 5, 5], [2, 3], { device });
  x.requiresGrad = true;
  using y = max(x, { axes: [1] });
  using loss = sum(y);
  loss.backward();
  expect(await y.toArray()).toEqual([3, 5]);
  expect(await x.grad!.toArray()).toEqual([
    [0.5, 0, 0.5],
    [0, 0.5, 0.5],
  ]);
});

test.for(targets)(
  "a sum of a million elements with a large mean keeps its digits on $name",
  async ({ select, device }) => {
    select();
    const n = 1 << 20;
    using x = full([n], 1000.1, { device });
    using rows = full([1024, 1024], 1000.1, { device });
    const exact = n * Math.fround(1000.1);
    using whole = sum(x);
    using columns = sum(rows, { axes: [0] });
    expect(Math.abs((await whole.item()) / exact - 1)).toBeLessThan(4e-7);
    for (const value of await columns.data()) expect(Math.abs((value / exact) * 1024 - 1)).toBeLessThan(4e-7);
  },
);

test.for(targets)("NaN and infinity reach the result on $name", async ({ select, device }) => {
  select();
  for (const n of [1, 16, 33, 100]) {
    using x = tensor([...Array<number>(n).fill(1), NaN, ...Array<number>(n).fill(2)], [2 * n + 1], { device });
    for (const op of [sum, mean, max]) {
      using y = op(x);
      expect(await y.item()).toBeNaN();
    }
    using low = full([n], -Infinity, { device });
    using highest = max(low);
    expect(await highest.item()).toBe(-Infinity);
  }
});

test.for(targets)("every axes of every order of four dimensions on $name", async ({ select, device }) => {
  select();
  const x = normal(random, [3, 2, 5, 17]);
  using given = tensor(x.data, x.shape, { device });
  const orders = (rest: number[]): number[][] =>
    rest.length === 0 ? [[]] : rest.flatMap((d) => orders(rest.filter((other) => other !== d)).map((o) => [d, ...o]));
  for (const order of orders([0, 1, 2, 3])) {
    using turned = transposed(given, order);
    const moved = transpose(x, order);
    for (let mask = 1; mask < 15; mask++) {
      const axes = [0, 1, 2, 3].filter((d) => (mask >> d) & 1);
      using y = sum(turned, { axes });
      const expected = reference(moved, { axes }, total).data;
      expectClose(`${String(axes)} of ${String(order)}`, await y.data(), expected, { relative: 16, absolute: 16 });
    }
  }
});
