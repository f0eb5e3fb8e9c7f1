import { expect, test } from "vitest";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { cast, contiguous, narrow, reshape, transpose } from "../../lib/ops/views.js";
import { formatShape } from "../../lib/shape.js";
import { tensor } from "../../lib/creation.js";
import { generate, nd, normal, reshape as reshaped, transpose as swapped } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(12);
/** Nothing is computed; gradients that meet are added. */
const exact = { out: { relative: 0, absolute: 0 }, grad: { relative: 1, absolute: 0 } };

const transposes: [number[], number[] | undefined][] = [
  [[2, 3], undefined],
  [[1, 17], undefined],
  [[33, 65], undefined],
  [
    [2, 3, 4],
    [2, 0, 1],
  ],
  [
    [2, 3, 4, 5],
    [0, 2, 1, 3],
  ],
  [
    [2, 3, 4, 5],
    [-1, -2, -3, -4],
  ],
  [[7], [0]],
  [[], []],
  [[0, 3], undefined],
];
opTest({
  name: "transpose",
  cases: transposes.map(([shape, order]) => ({
    name: `${formatShape(shape)} ${order ? formatShape(order) : ""}`,
    inputs: { x: normal(random, shape) },
    options: order,
  })),
  ours: ({ x }, _, order) => transpose(x, order),
  reference: ({ x }, _, order) =>
    swapped(
      x,
      order?.map((axis) => (axis < 0 ? axis + x.shape.length : axis)),
    ),
  tolerance: exact,
});

const reshapes: [number[], number[]][] = [
  [[6], [2, 3]],
  [[2, 3], [-1]],
  [
    [4, 6],
    [2, -1, 3],
  ],
  [[1], []],
  [[], [1, 1]],
  [
    [0, 3],
    [5, 0],
  ],
  [
    [17, 31],
    [31, 17],
  ],
];
opTest({
  name: "reshape",
  cases: reshapes.map(([from, to]) => ({
    name: `${formatShape(from)} → ${formatShape(to)}`,
    inputs: { x: normal(random, from) },
    options: to,
  })),
  ours: ({ x }, _, to) => reshape(x, to),
  reference: ({ x }, _, to) => {
    const known = to.reduce((n, size) => (size < 0 ? n : n * size), 1);
    return reshaped(
      x,
      to.map((size) => (size < 0 ? x.data.length / known : size)),
    );
  },
  tolerance: exact,
});

const narrows: [number[], number, number, number][] = [
  [[5], 0, 1, 3],
  [[5], 0, 0, 5],
  [[5], 0, 5, 0],
  [[3, 17], 1, 2, 9],
  [[3, 17], 0, 2, 1],
  [[2, 3, 65], -2, 1, 2],
  [[4, 0], 1, 0, 0],
];
opTest({
  name: "narrow",
  cases: narrows.map(([shape, axis, start, length]) => ({
    name: `${formatShape(shape)} ${axis} ${start} ${length}`,
    inputs: { x: normal(random, shape) },
    options: { axis, start, length },
  })),
  ours: ({ x }, _, { axis, start, length }) => narrow(x, axis, start, length),
  reference: ({ x }, _, { axis, start, length }) => {
    const at = axis < 0 ? axis + x.shape.length : axis;
    // With the axis in front, a part of it is a run of elements.
    const order = [at, ...[...x.shape.keys()].filter((i) => i !== at)];
    const moved = swapped(x, order);
    const run = moved.data.length / Math.max(1, x.shape[at]!);
    const part = nd([length, ...moved.shape.slice(1)], moved.data.subarray(start * run, (start + length) * run));
    return swapped(
      part,
      [...x.shape.keys()].map((i) => order.indexOf(i)),
    );
  },
  tolerance: exact,
});

opTest({
  name: "contiguous",
  cases: [[], [5], [3, 17], [2, 3, 5]].map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape) },
  })),
  ours: ({ x }) => mul(contiguous(x), 1),
  reference: ({ x }) => x,
  tolerance: exact,
  single: false,
});

opTest({
  name: "cast to f32",
  cases: [[], [0], [5], [3, 33]].map((shape) => ({ name: formatShape(shape), inputs: { x: normal(random, shape) } })),
  ours: ({ x }) => cast(x, "f32"),
  reference: ({ x }) => x,
  tolerance: exact,
  outDType: "f32",
});

/** A float32 rounded to nearest even with `bits` fewer bits of fraction. */
function rounded(x: number, bits: number): number {
  const word = new Uint32Array(Float32Array.of(x).buffer)[0]!;
  const half = 2 ** (bits - 1);
  const low = word % 2 ** bits;
  const base = word - low;
  const up = low > half || (low === half && (base / 2 ** bits) % 2 === 1);
  return new Float32Array(Uint32Array.of(base + (up ? 2 ** bits : 0)).buffer)[0]!;
}

const values = [
  0,
  -0,
  1,
  -1.5,
  65504,
  1e-8,
  3.4e38,
  Infinity,
  -Infinity,
  NaN,
  2 ** -24,
  2 ** -25,
  1 + 2 ** -8,
  1 + 3 * 2 ** -8,
];

test.for(targets)("bf16 and f16 round to nearest even on $name", async ({ select, device }) => {
  select();
  const numbers = [...values, ...generate([300], () => random.normal() * 10 ** (8 * random.uniform() - 4)).data];
  using x = tensor(numbers, [numbers.length], { device });
  using b = cast(x, "bf16");
  using h = cast(x, "f16");
  expect([b.dtype, h.dtype]).toEqual(["bf16", "f16"]);
  const [bf16, f16] = [await b.data(), await h.data()];
  numbers.forEach((number, i) => {
    const value = Math.fround(number);
    expect(bf16[i], `${value} as bf16`).toBe(Number.isFinite(value) ? rounded(value, 16) : value);
    // Numbers of f16's normal range have 13 bits of fraction fewer; smaller ones are multiples of 2⁻²⁴.
    const magnitude = Math.abs(value);
    const scaled = value * 2 ** 24;
    const even = Math.round(scaled) - Number(Math.abs(scaled % 1) === 0.5 && Math.round(scaled) % 2 !== 0);
    const expected =
      magnitude >= 65520 ? Math.sign(value) * Infinity : magnitude < 2 ** -14 ? even / 2 ** 24 : rounded(value, 13);
    expect(f16[i]! + 0, `${value} as f16`).toBe((Number.isNaN(value) ? NaN : expected) + 0);
  });
});

test.for(targets)("casts between integers and floats on $name", async ({ select, device }) => {
  select();
  using x = tensor([1.9, -1.9, 0.5, 254.99, -0.5], [5], { device });
  using i = cast(x, "i32");
  expect([...(await i.data())]).toEqual([1, -1, 0, 254, 0]);
  using back = cast(i, "f32");
  expect([...(await back.data())]).toEqual([1, -1, 0, 254, 0]);
  using positive = tensor([0, 1.5, 255, 7.99], [4], { device });
  using bytes = cast(positive, "u8");
  expect([...(await bytes.data())]).toEqual([0, 1, 255, 7]);
});

test.for(targets)("the gradient of a cast comes back in the input's dtype on $name", async ({ select, device }) => {
  select();
  using x = tensor([1, 2, 3], [3], { device });
  x.requiresGrad = true;
  using narrowed = cast(x, "bf16");
  using wide = cast(narrowed, "f32");
  using loss = sum(wide);
  loss.backward();
  expect(x.grad!.dtype).toBe("f32");
  expect([...(await x.grad!.data())]).toEqual([1, 1, 1]);
});
