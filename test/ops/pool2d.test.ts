import { afterAll, expect, test } from "vitest";
import { parameter } from "../../lib/core/autograd.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import { native } from "../../lib/core/native.js";
import { avgPool2d, avgPool2dGradient, maxPool2d, maxPool2dGradient } from "../../lib/ops/pool2d.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { distinct, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { bestIsa, targets } from "../support/targets.js";
import { avgPool, maxPool, type Slide } from "../support/windows.js";

const random = new Random(32);

afterAll(() => native.selectIsa(bestIsa));

interface Case {
  name: string;
  x: number[];
  options: Slide & { window: [number, number]; countPadding?: boolean };
}

const cases: Case[] = [
  { name: "apart, 17 channels", x: [2, 6, 9, 17], options: { window: [2, 2], stride: [2, 2] } },
  {
    name: "overlapping, padded",
    x: [1, 5, 6, 3],
    options: { window: [3, 3], stride: [1, 2], padding: [1, 1, 0, 2] },
  },
  { name: "dilated, one channel", x: [1, 5, 7, 1], options: { window: [2, 3], stride: [2, 1], dilation: [3, 2] } },
  { name: "stride beyond the window", x: [2, 7, 5, 2], options: { window: [1, 2], stride: [3, 3] } },
];

opTest({
  name: "maxPool2d",
  cases: cases.map(({ name, x, options }) => ({ name, inputs: { x: distinct(random, x) }, options })),
  ours: ({ x }, _, options) => maxPool2d(x, options),
  reference: ({ x }, _, { window, ...slide }) => maxPool(x, window, slide),
  // Gradients of overlapping windows are added.
  tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 4, absolute: 4 } },
});

opTest({
  name: "avgPool2d",
  cases: [
    ...cases,
    {
      name: "padding counts",
      x: [1, 4, 5, 7],
      options: { window: [3, 2], stride: [2, 2], padding: [1, 1, 1, 0], countPadding: true } as Case["options"],
    },
  ].map(({ name, x, options }) => ({ name, inputs: { x: normal(random, x) }, options })),
  ours: ({ x }, _, options) => avgPool2d(x, options),
  reference: ({ x }, _, { window, countPadding = false, ...slide }) => avgPool(x, window, slide, countPadding),
  tolerance: { out: { relative: 4, absolute: 4 }, grad: { relative: 4, absolute: 4 } },
});

test.for(targets)("the first of equal numbers gets the gradient, and NaN is none, on $name", async (target) => {
  target.select();
  const { device } = target;
  const options = { window: [2, 2], stride: 1 } as const;
  using x = tensor([1, 5, 5, NaN, 5, 2, NaN, NaN, -Infinity], [1, 3, 3, 1], { device });
  using y = maxPool2d(x, options);
  expect([...(await y.data())]).toEqual([5, 5, 5, 5]);
  using dy = tensor([1, 10, 100, 1000], [1, 2, 2, 1], { device });
  using dx = maxPool2dGradient(dy, x, options);
  expect([...(await dx.data())]).toEqual([0, 11, 0, 0, 1100, 0, 0, 0, 0]);
});

test.for(targets)("windows in the padding alone on $name", async ({ select, device }) => {
  select();
  const options = { window: 1, stride: 1, padding: 1 } as const;
  using x = tensor([2], [1, 1, 1, 1], { device });
  using highest = maxPool2d(x, options);
  using mean = avgPool2d(x, options);
  const outside = Array<number>(4).fill(-Infinity);
  expect([...(await highest.data())]).toEqual([...outside, 2, ...outside]);
  expect([...(await mean.data())]).toEqual([0, 0, 0, 0, 2, 0, 0, 0, 0]);
});

test.for(targets)("gradients alone, and of nothing, on $name", async ({ select, device }) => {
  select();
  using dy = tensor([1, 2], [1, 1, 2, 1], { device });
  using dx = avgPool2dGradient(dy, [2, 3], { window: 2, stride: 1 });
  expect([...(await dx.data())]).toEqual([0.25, 0.75, 0.5, 0.25, 0.75, 0.5]);
  for (const shape of [
    [0, 4, 4, 3],
    [1, 4, 4, 0],
  ]) {
    using x = parameter(zeros(shape, { device }));
    scope(() => {
      sum(maxPool2d(x, { window: 2 })).backward();
      sum(avgPool2d(x, { window: 2 })).backward();
    });
    expect(x.grad!.shape).toEqual(shape);
  }
});

test("wrong shapes and options are named", () => {
  const x = zeros([1, 4, 4, 3]);
  const code = (code: string): Error => expect.objectContaining({ code }) as Error;
  expect(() => maxPool2d(x, { window: 5 })).toThrow(code("ERR_SHAPE"));
  expect(() => maxPool2d(x, { window: 0 })).toThrow(code("ERR_RANGE"));
  expect(() => maxPool2d(x, {} as never)).toThrow(code("ERR_ARGUMENT"));
  expect(() => avgPool2d(x, { window: 2, countPadding: 1 as never })).toThrow(code("ERR_ARGUMENT"));
  expect(() => avgPool2d(zeros([4, 4]), { window: 2 })).toThrow(code("ERR_SHAPE"));
  expect(() => maxPool2dGradient(zeros([1, 2, 2, 4]), x, { window: 2 })).toThrow(code("ERR_SHAPE"));
});
