import { expect, test } from "vitest";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { cast, contiguous, narrow, reshape, transpose } from "../../lib/ops/views.js";
import type { DType } from "../../lib/core/dtype.js";
import { ops } from "../../lib/core/native.js";
import { formatShape } from "../../lib/core/shape.js";
import { full, tensor } from "../../lib/core/creation.js";
import { formats, roundTo } from "../support/dtypes.js";
import { nd, normal, reshape as reshaped, transpose as swapped } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(12);
/** Nothing is computed, but gradients of several uses are added. */
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
    // With the axis in front, a part of it is a contiguous run of elements.
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

const all = ["f32", "bf16", "f16", "i32", "u8"] as const;

/**
 * Returns the number after conversion: rounded to nearest even, or towards 0 and clamped to the range of the integer
 * type.
 */
function held(dtype: DType, x: number): number {
  if (dtype !== "i32" && dtype !== "u8") return roundTo(dtype, x) || Math.sign(x) * 0;
  const [least, most] = dtype === "u8" ? [0, 255] : [-(2 ** 31), 2 ** 31 - 1];
  return Number.isNaN(x) ? 0 : Math.min(Math.max(Math.trunc(x), least), most) + 0;
}

// Numbers at and beside the ends of each dtype's range.
const ends = [
  0,
  0.5,
  0.999,
  1,
  1.5,
  254.9,
  255,
  255.5,
  256,
  65503,
  65504,
  65519,
  65520,
  65536,
  2 ** -24,
  2 ** -25,
].concat([1.5 * 2 ** -25, 2 ** -126, 2 ** -149, 2147483520, 2 ** 31, 1e30, 3.4028234663852886e38, Infinity, NaN]);

/** Returns numbers around every `step`-th tie of both 16-bit types. */
function ties(step: number): number[] {
  const numbers: number[] = [];
  for (const dtype of ["bf16", "f16"] as const) {
    const { precision, least } = formats[dtype];
    for (let n = 0; n < 2 ** 15; n += step) {
      const exponent = Math.max(n >> (precision - 1), 1) + least - precision;
      const fraction = (n % 2 ** (precision - 1)) + (n >= 2 ** (precision - 1) ? 2 ** (precision - 1) : 0);
      const tie = Math.fround((fraction + 0.5) * 2 ** exponent);
      if (Math.abs(tie) < formats[dtype].overflow) numbers.push(tie, tie * (1 + 2 ** -23), tie * (1 - 2 ** -24));
    }
  }
  return numbers;
}

test.for(targets)("casts round to nearest even, and integers towards 0, on $name", async ({ select, device }) => {
  select();
  const some = [...ends, ...ties(device === "cpu" ? 5 : 101)];
  const numbers = Float32Array.from(some.flatMap((x) => [x, -x]));
  const integers = Int32Array.from({ length: 31 * 25 }, (_, i) => {
    const near = [1, 257, 259, 2049, 2051][i % 5]! * 2 ** Math.floor(i / 25) + (Math.floor(i / 5) % 5) - 2;
    return (i % 2 ? -1 : 1) * Math.min(near, 2 ** 31 - 1);
  });
  for (const values of [numbers, integers, Uint8Array.from({ length: 256 }, (_, i) => i)]) {
    using x = tensor(values, [values.length], { device });
    for (const dtype of all) {
      using y = cast(x, dtype);
      expect(y.dtype).toBe(dtype);
      const got = await y.data();
      for (let i = 0; i < values.length; i++)
        if (!Object.is(got[i], held(dtype, values[i]!)))
          expect.fail(`${values[i]} of ${x.dtype} as ${dtype}: expected ${held(dtype, values[i]!)}, got ${got[i]}`);
      // Converting back gives the same number, because f32 can represent every 16-bit float.
      if (dtype !== "bf16" && dtype !== "f16") continue;
      for (const to of all) {
        using z = cast(y, to);
        const back = await z.data();
        for (let i = 0; i < values.length; i++)
          if (!Object.is(back[i], held(to, got[i]!)))
            expect.fail(`${got[i]} of ${dtype} as ${to}: expected ${held(to, got[i]!)}, got ${back[i]}`);
      }
    }
  }
});

/** Memory layouts of a shape [d, e, f]: each returns the length of the memory and the strides in it. */
const layouts: Record<string, (shape: number[]) => [number, number[]]> = {
  contiguous: ([d, e, f]) => [d! * e! * f!, [e! * f!, f!, 1]],
  transposed: ([d, e, f]) => [d! * e! * f!, [e! * f!, 1, e!]],
  stepped: ([d, e, f]) => [2 * d! * e! * f!, [2 * e! * f!, 2 * f!, 2]],
  "planes last": ([d, e, f]) => [d! * e! * f!, [1, f! * d!, d!]],
  "repeated planes": ([, e, f]) => [e! * f!, [0, f!, 1]],
  "repeated numbers": ([d, e]) => [d! * e!, [e!, 1, 0]],
};

test.for(targets)("copies between every pair of dtypes and layouts on $name", async ({ select, device }) => {
  select();
  const shape = [2, 33, 17];
  const places = ([size, strides]: [number, number[]]): [number, number[], number[]] => [
    size,
    strides,
    Array.from({ length: 2 * 33 * 17 }, (_, i) =>
      [Math.floor(i / (33 * 17)), Math.floor(i / 17) % 33, i % 17].reduce((at, x, d) => at + x * strides[d]!, 0),
    ),
  ];
  for (const from of all)
    for (const makeIn of Object.values(layouts)) {
      const [size, strides, read] = places(makeIn(shape));
      const values = Float32Array.from({ length: size }, () => held(from, 300 * random.normal()));
      using memory = tensor(values, [size], { device }).to(from);
      using inp = memory.viewAs(shape, strides);
      for (const to of all)
        for (const name of ["contiguous", "transposed", "stepped", "planes last"]) {
          const [outSize, outStrides, written] = places(layouts[name]!(shape));
          using target = full([outSize], 7, { device, dtype: to });
          using out = target.viewAs(shape, outStrides);
          ops.copy({ out, inp });
          const expected = new Float64Array(outSize).fill(7);
          written.forEach((at, i) => (expected[at] = held(to, values[read[i]!]!)));
          const got = await target.data();
          const wrong = expected.findIndex((value, i) => !Object.is(got[i]! + 0, value + 0));
          if (wrong >= 0)
            expect.fail(`${name} ${to} from ${from}: expected ${expected[wrong]} at ${wrong}, got ${got[wrong]}`);
        }
    }
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
