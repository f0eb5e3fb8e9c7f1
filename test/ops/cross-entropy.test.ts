import { expect, test } from "vitest";
import { crossEntropy, type CrossEntropyOptions } from "../../lib/ops/cross-entropy.js";
import { linearCrossEntropy } from "../../lib/ops/linear-cross-entropy.js";
import { ones, tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { formatShape } from "../../lib/core/shape.js";
import { expectWithin, u } from "../support/close.js";
import { leastRoundoff, roundoff, roundTo } from "../support/dtypes.js";
import { fixtureTest } from "../support/fixtures.js";
import { logSoftmax } from "../support/functions.js";
import { generate, integers, mapRows, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { devicesTested, targets } from "../support/targets.js";

const random = new Random(9);

function reference(logits: Nd, ids: Nd, { ignoreIndex = -100, labelSmoothing = 0 }: CrossEntropyOptions): Nd {
  const V = logits.shape.at(-1)!;
  let total = 0;
  let count = 0;
  ids.data.forEach((target, r) => {
    if (target === ignoreIndex) return;
    const row = logits.data.subarray(r * V, (r + 1) * V);
    const highest = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const lse = highest + Math.log(row.reduce((a, b) => a + Math.exp(b - highest), 0));
    const uniform = row.reduce((a, b) => a + (lse - b), 0) / V;
    total += (1 - labelSmoothing) * (lse - row[target]!) + (labelSmoothing && labelSmoothing * uniform);
    count++;
  });
  return { shape: [], data: Float64Array.of(count === 0 ? 0 : total / count) };
}

const shapes: [number[], number][] = [
  [[1], 1],
  [[], 3],
  [[2], 2],
  [[17], 31],
  [[3, 5], 33],
  [[5], 63],
  [[4], 65],
  [[33], 257],
  [[3], 1025],
  [[0], 5],
];

function ignoring(ids: Nd, index: number): Nd {
  return { ...ids, data: ids.data.map((id, i) => (i % 3 === 1 ? index : id)) };
}

// log Σ exp(x − max) is a rounded log of at least 1, whatever the loss is. x − max, of up to 16, has an error of that
// times u. Gradients are softmax − target, and an exponential has the absolute error of its argument as its relative
// error.
const exact = { relative: 0, absolute: 0 };
const tolerance = { out: { relative: 8, absolute: 4, scale: 1 }, grad: { relative: 24, absolute: 2 } };

opTest({
  name: "crossEntropy",
  cases: [
    {},
    { ignoreIndex: -1 },
    { ignoreIndex: 0, labelSmoothing: 0.1 },
    { labelSmoothing: 1 },
    { labelSmoothing: 0.25 },
  ].flatMap((options: CrossEntropyOptions) =>
    shapes.map(([rows, V]) => ({
      name: `${formatShape(rows)} of ${V} ${JSON.stringify(options)}`,
      // The logits are so small that 1 − p does not cancel.
      inputs: { logits: normal(random, [...rows, V], { scale: V > 2 ? 2 : 0.5 }) },
      ints: { targets: ignoring(integers(random, rows, V), options.ignoreIndex ?? -100) },
      options,
    })),
  ),
  ours: ({ logits }, { targets }, options) => crossEntropy(logits, targets, options),
  reference: ({ logits }, { targets }, options) => reference(logits, targets, options),
  tolerance,
  // The loss is f32, and as accurate as in f32.
  outDType: "f32",
  roundings: { out: exact },
});

opTest({
  name: "crossEntropy of large logits",
  cases: [{ name: "offset 500", inputs: { logits: normal(random, [5, 33], { offset: 500 }) } }],
  ours: ({ logits }) => crossEntropy(logits, tensor(Int32Array.of(1, 2, 3, 4, 5), [5], { device: logits.device })),
  reference: ({ logits }) => reference(logits, { shape: [5], data: Float64Array.of(1, 2, 3, 4, 5) }, {}),
  tolerance,
  // The loss is f32, and as accurate as in f32.
  outDType: "f32",
  roundings: { out: exact },
  single: false,
});

/** Three rows of V logits, in which no target is masked. */
const threeRows: [string, number, (r: number, v: number) => number][] = [
  ["far above 0", 65, (r, v) => 1e4 + ((7 * v + r) % 64) / 4],
  ["far below 0", 1025, (r, v) => -1e4 + ((7 * v + r) % 64) / 4],
  ["masked", 1025, (r, v) => (v % 13 === 0 ? ((7 * v + r) % 64) / 8 : -Infinity)],
  ["masked at first", 3000, (r, v) => (v < 2500 ? -Infinity : -1000 * r + (v % 7))],
  // Each block of a row has a new maximum, or only the first block has it.
  ["rising and falling", 5000, (r, v) => (r - 1) * 0.01 * v],
];
opTest({
  name: "crossEntropy of logits",
  cases: threeRows.map(([name, V, value]) => ({
    name,
    inputs: { logits: generate([3, V], (i) => value(Math.floor(i / V), i % V)) },
    ints: {
      targets: {
        shape: [3],
        data: Float64Array.of(V - 25 - ((V - 25) % 13), 13 * Math.floor((V - 5) / 13), V - 1 - ((V - 1) % 13)),
      },
    },
  })),
  ours: ({ logits }, { targets }) => crossEntropy(logits, targets),
  reference: ({ logits }, { targets }) => reference(logits, targets, {}),
  tolerance: { out: { relative: 8, absolute: 4, scale: 1 }, grad: { relative: 64, absolute: 2 } },
  short: false,
  outDType: "f32",
});

test.for(targets)("impossible targets, and NaN, on $name", async ({ select, device }) => {
  select();
  const loss = async (logits: Float32Array, target: number, labelSmoothing = 0): Promise<[number, Float32Array]> => {
    using x = tensor(logits, [1, logits.length], { device });
    using ids = tensor(Int32Array.of(target), [1], { device });
    x.requiresGrad = true;
    using y = crossEntropy(x, ids, { labelSmoothing });
    y.backward();
    return [await y.item(), await x.grad!.data()];
  };
  const masked = Float32Array.from({ length: 3000 }, (_, v) => (v < 2048 ? -Infinity : 1));
  // An impossible target has an infinite loss but a finite gradient; so has a target whose share belongs to impossible
  // tokens.
  for (const [target, smoothing] of [
    [7, 0],
    [2900, 0.5],
    [7, 1],
  ] as const) {
    const [value, gradient] = await loss(masked, target, smoothing);
    expect(value).toBe(Infinity);
    expect(gradient.every(Number.isFinite)).toBe(true);
    if (smoothing === 0) expect(gradient[7]).toBe(-1);
  }
  for (const at of [0, 700, 2047, 2999]) expect((await loss(masked.with(at, NaN), 2500))[0]).toBeNaN();
});

test.for(targets)("the loss of a large vocabulary on $name", async ({ select, device }) => {
  select();
  const logits = normal(new Random(2), [2, 50257], { scale: 3 });
  const ids = { shape: [2], data: Float64Array.of(0, 50256) };
  for (const labelSmoothing of [0, 0.1]) {
    using x = tensor(logits.data, logits.shape, { device });
    using index = tensor(Int32Array.from(ids.data), [2], { device });
    using loss = crossEntropy(x, index, { labelSmoothing });
    const exact = reference(logits, ids, { labelSmoothing }).data[0]!;
    // Sums of 50,257 terms in at least 16 lanes.
    expect(Math.abs((await loss.item()) / exact - 1)).toBeLessThan(64 * u);
  }
});

fixtureTest("cross-entropy", ({ logits }, { targets }, { options }) => crossEntropy(logits!, targets!, options));

test.for(targets)("backward(scale) scales the gradient on $name", async ({ select, device }) => {
  select();
  using logits = tensor([0, 1, 2], [1, 3], { device });
  using ids = tensor(Int32Array.of(0), [1], { device });
  logits.requiresGrad = true;
  using first = crossEntropy(logits, ids);
  first.backward();
  const plain = await logits.grad!.data();
  logits.zeroGrad();
  using second = crossEntropy(logits, ids);
  second.backward(-0.25);
  const scaled = await logits.grad!.data();
  scaled.forEach((value, i) => expect(Math.abs(value + plain[i]! / 4)).toBeLessThan(u));
});

const heads: [string, (x: FloatTensor, ids: IntTensor) => FloatTensor][] = [
  ["crossEntropy", (x, ids) => crossEntropy(x, ids)],
  // The gradient of x goes through a weight that changes nothing.
  [
    "linearCrossEntropy",
    (x, ids) => {
      const [rows, V] = x.shape as [number, number];
      const identity = Float32Array.from({ length: V * V }, (_, i) => (i % (V + 1) === 0 ? 1 : 0));
      using weight = tensor(identity, [V, V], { dtype: x.dtype, device: x.device });
      return linearCrossEntropy(x, weight, ids, { chunkRows: rows / 2 });
    },
  ],
];
for (const [name, loss] of heads)
  test.for(devicesTested)(`the factor of backward() meets ${name}'s gradient in f32 on $name`, async ({ device }) => {
    const [rows, V] = [512, 16];
    for (const [dtype, factor] of [
      ["bf16", 1 / 3],
      ["bf16", 1e30],
      ["f16", 1 / 3],
      ["f16", 1024],
      ["f16", 65536],
    ] as const) {
      const values = generate([rows, V], () => roundTo(dtype, 3 * random.normal()));
      const ids = Int32Array.from({ length: rows }, () => random.integer(V));
      using x: FloatTensor = tensor(values.data, [rows, V], { dtype, device });
      using index = tensor(ids, [rows], { device });
      x.requiresGrad = true;
      using y = loss(x, index);
      y.backward(factor);
      const exact = mapRows(values, (row, r) =>
        Float64Array.from(logSoftmax(row), (log, v) => ((Math.exp(log) - Number(v === ids[r])) * factor) / rows),
      );
      // It is rounded when it is made, and again after the multiplication by the factor. If one number served for all
      // elements, as a factor does, all errors could have the same direction.
      const [got, want] = [await x.grad!.data(), exact.data];
      expectWithin(
        `${dtype} times ${factor}`,
        got,
        want,
        (value) => 2.1 * roundoff(dtype) * Math.abs(value) + 2 * leastRoundoff(dtype),
      );
      const normal = [...want.keys()].filter((i) => Math.abs(want[i]!) > 2 ** -14);
      const bias = normal.reduce((sum, i) => sum + got[i]! / want[i]! - 1, 0) / normal.length;
      expect(Math.abs(bias), `${dtype} times ${factor}, on average`).toBeLessThan(roundoff(dtype) / 10);
    }
  });

test.for(targets)("every target ignored gives 0 and no gradient on $name", async ({ select, device }) => {
  select();
  using logits = ones([3, 17], { device });
  using ids = tensor(Int32Array.of(-100, -100, -100), [3], { device });
  logits.requiresGrad = true;
  using loss = crossEntropy(logits, ids);
  loss.backward();
  expect(await loss.item()).toBe(0);
  expect(await logits.grad!.data()).toEqual(new Float32Array(51));
});

test.for(targets)("a target out of range rejects the next read on $name", async ({ select, device }) => {
  select();
  using logits = zeros([2, 4], { device });
  for (const target of [4, -1, -(2 ** 31), 2 ** 31 - 1]) {
    using ids = tensor(Int32Array.of(0, target), [2], { device });
    using loss = crossEntropy(logits, ids);
    await expect(loss.item()).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: expect.stringMatching(/cross_?entropy.*expected .* got /i),
    });
    expect([...(await logits.data())]).toEqual(Array(8).fill(0));
  }
});
