import { afterAll, expect, test } from "vitest";
import { noGrad, parameter } from "../../lib/core/autograd.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import { native } from "../../lib/core/native.js";
import { mul } from "../../lib/ops/binary.js";
import { conv2d, conv2dFilterGradient, convTranspose2d } from "../../lib/ops/conv2d.js";
import {
  depthwiseConv2d,
  depthwiseConv2dFilterGradient,
  depthwiseConv2dInputGradient,
} from "../../lib/ops/depthwise-conv2d.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { map, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { bestIsa, productTargets, targets } from "../support/targets.js";
import { convolve, convolveDepthwise, convolveTransposed, filterGradient, type Slide } from "../support/windows.js";

const random = new Random(31);

afterAll(() => native.selectIsa(bestIsa));

// Sums of products in f32, as of matmul.
const tolerance = { out: { relative: 4, absolute: 12 }, grad: { relative: 4, absolute: 16 } };

interface Case {
  name: string;
  x: number[];
  filter: number[];
  slide: Slide;
}

const cases: Case[] = [
  { name: "one channel, padded", x: [2, 5, 6, 1], filter: [3, 2, 1, 3], slide: { padding: [1, 1, 0, 1] } },
  { name: "strides beyond the window", x: [1, 7, 8, 3], filter: [2, 2, 3, 7], slide: { stride: [3, 4] } },
  {
    name: "dilated with strides, uneven padding",
    x: [2, 6, 7, 7],
    filter: [2, 3, 7, 17],
    slide: { stride: [2, 1], dilation: [2, 2], padding: [0, 2, 3, 1] },
  },
  // More than 256 products for an element: chains of their own, and several pieces of a patch.
  { name: "many products", x: [1, 4, 5, 33], filter: [3, 3, 33, 5], slide: { padding: [1, 0, 1, 0] } },
  { name: "pixels as they are", x: [2, 3, 3, 5], filter: [1, 1, 5, 3], slide: {} },
  { name: "single taps with strides", x: [1, 5, 4, 2], filter: [1, 1, 2, 2], slide: { stride: [2, 2] } },
];

opTest({
  name: "conv2d",
  cases: cases.map(({ name, x, filter, slide }) => ({
    name,
    inputs: { x: normal(random, x), filter: normal(random, filter), bias: normal(random, [filter[3]!]) },
    options: slide,
  })),
  ours: ({ x, filter, bias }, _, slide) => conv2d(x, filter, { bias, ...slide }),
  reference: ({ x, filter, bias }, _, slide) => convolve(x, filter, bias, slide),
  tolerance,
  parameters: ["filter", "bias"],
});

opTest({
  name: "conv2d with an activation",
  cases: [{ name: "sigmoid", inputs: { x: normal(random, [1, 4, 3, 2]), filter: normal(random, [2, 2, 2, 3]) } }],
  ours: ({ x, filter }) => conv2d(x, filter, { activation: "sigmoid" }),
  reference: ({ x, filter }) => map(convolve(x, filter, undefined, {}), (value) => 1 / (1 + Math.exp(-value))),
  tolerance,
  // The gradient before the activation is rounded too.
  roundings: { grad: { relative: 3, absolute: 2 } },
});

const transposed: { name: string; x: number[]; filter: number[]; slide: Slide; size: [number, number] }[] = [
  { name: "doubled", x: [2, 3, 2, 3], filter: [2, 2, 5, 3], slide: { stride: [2, 2] }, size: [6, 5] },
  {
    name: "overlapping",
    x: [1, 3, 4, 2],
    filter: [3, 3, 1, 2],
    slide: { stride: [2, 1], padding: [1, 1, 1, 1] },
    size: [6, 4],
  },
];

opTest({
  name: "convTranspose2d",
  cases: transposed.map(({ name, x, filter, slide, size }) => ({
    name,
    inputs: { x: normal(random, x), filter: normal(random, filter) },
    options: { ...slide, size },
  })),
  ours: ({ x, filter }, _, options) => convTranspose2d(x, filter, options),
  reference: ({ x, filter }, _, { size, ...slide }) => convolveTransposed(x, filter, size, slide),
  tolerance,
});

const depthwise: Case[] = [
  { name: "17 channels", x: [2, 5, 9, 17], filter: [3, 3, 17, 1], slide: { padding: [1, 1, 1, 1] } },
  { name: "strides", x: [1, 6, 7, 3], filter: [3, 2, 3, 1], slide: { stride: [2, 3], padding: [1, 0, 0, 1] } },
  { name: "several filters, dilated", x: [1, 5, 5, 2], filter: [2, 2, 2, 3], slide: { dilation: [2, 3] } },
  { name: "a stride beyond the image", x: [1, 2, 3, 1], filter: [2, 1, 1, 1], slide: { stride: [5, 2] } },
];

opTest({
  name: "depthwiseConv2d",
  cases: depthwise.map(({ name, x, filter, slide }) => ({
    name,
    inputs: {
      x: normal(random, x),
      filter: normal(random, filter),
      bias: normal(random, [filter[2]! * filter[3]!]),
    },
    options: slide,
  })),
  ours: ({ x, filter, bias }, _, slide) => depthwiseConv2d(x, filter, { bias, ...slide }),
  reference: ({ x, filter, bias }, _, slide) => convolveDepthwise(x, filter, bias, slide),
  tolerance,
  // With several filters a channel's gradients are rounded before they are added up, and may cancel.
  roundings: { grad: { relative: 2, absolute: 2 } },
  single: false,
});

/** Reads the results of functions on tensors of these values. */
async function results(
  device: string,
  values: readonly Nd[],
  body: (...inputs: FloatTensor[]) => FloatTensor[],
): Promise<Float32Array[]> {
  const outs = noGrad(() => scope(() => body(...values.map(({ data, shape }) => tensor(data, shape, { device })))));
  const data = await Promise.all(outs.map((out) => out.data()));
  for (const out of outs) out.dispose();
  return data;
}

const larger: Case[] = [
  // Several panels of rows and columns, more than one pass over K, and four phases.
  {
    name: "many channels",
    x: [2, 9, 12, 91],
    filter: [3, 3, 91, 40],
    slide: { stride: [2, 2], padding: [1, 1, 0, 2] },
  },
  // The sum of the filter's gradient is cut into parts.
  { name: "a small filter", x: [4, 36, 34, 1], filter: [3, 3, 1, 8], slide: {} },
];

for (const { name, x, filter, slide } of larger) {
  const [images, taps] = [normal(random, x), normal(random, filter)];
  const expected = convolve(images, taps, undefined, slide);
  const dy = normal(random, expected.shape);
  const size: [number, number] = [x[1]!, x[2]!];
  const window: [number, number] = [filter[0]!, filter[1]!];
  const dx = convolveTransposed(dy, taps, size, slide);
  const dfilter = filterGradient(images, dy, window, slide);
  test.for(targets)(`${name} on $name`, async ({ select, device }) => {
    select();
    const got = await results(device, [images, taps, dy], (x, filter, dy) => [
      conv2d(x, filter, slide),
      convTranspose2d(dy, filter, { size, ...slide }),
      conv2dFilterGradient(x, dy, window, slide),
    ]);
    const within = { relative: 4, absolute: 8 };
    for (const [i, want] of [expected, dx, dfilter].entries()) expectClose(`result ${i}`, got[i]!, want.data, within);
  });
}

test.for(targets)("gradients of a depthwise convolution alone on $name", async ({ select, device }) => {
  select();
  const slide: Slide = { stride: [2, 1], padding: [1, 1, 2, 0] };
  const [x, filter] = [normal(random, [2, 5, 6, 3]), normal(random, [3, 2, 3, 2])];
  const dy = normal(random, convolveDepthwise(x, filter, undefined, slide).shape);
  const leaves = [x, filter].map(({ data, shape }) => parameter(tensor(data, shape, { device })));
  const upstream = tensor(dy.data, dy.shape, { device });
  const [images, taps] = leaves as [FloatTensor, FloatTensor];
  scope(() => {
    sum(mul(depthwiseConv2d(images, taps, slide), upstream)).backward();
  });
  const got = await results(device, [x, filter, dy], (x, filter, dy) => [
    depthwiseConv2dInputGradient(dy, filter, [5, 6], slide),
    depthwiseConv2dFilterGradient(x, dy, [3, 2], slide),
  ]);
  for (const [i, leaf] of leaves.entries()) {
    expectClose(`gradient ${i}`, got[i]!, await leaf.grad!.data(), { relative: 2, absolute: 2 });
    leaf.dispose();
  }
  upstream.dispose();
});

test.for(productTargets)("an image has the same bits alone and among others on $name", async ({ select, device }) => {
  select();
  const [x, filter] = [normal(random, [5, 6, 5, 37]), normal(random, [3, 3, 37, 9])];
  for (const dtype of ["f32", "bf16"] as const) {
    using images = tensor(x.data, x.shape, { device, dtype });
    using taps = tensor(filter.data, filter.shape, { device, dtype });
    using together = conv2d(images, taps, { padding: 1 });
    using third = scope(() => conv2d(narrow(images, 0, 2, 1), taps, { padding: 1 }));
    const [all, one] = [await together.data(), await third.data()];
    expect(one).toEqual(all.slice(2 * one.length, 3 * one.length));
  }
});

test.for(targets)("empty images and results on $name", async ({ select, device }) => {
  select();
  const shapes: [number[], number[], number[]][] = [
    [
      [0, 3, 3, 2],
      [2, 2, 2, 5],
      [0, 2, 2, 5],
    ],
    [
      [1, 3, 3, 0],
      [2, 2, 0, 2],
      [1, 2, 2, 2],
    ],
    [
      [1, 3, 3, 2],
      [2, 2, 2, 0],
      [1, 2, 2, 0],
    ],
  ];
  for (const [image, window, result] of shapes) {
    const leaves = [image, window].map((shape) => parameter(zeros(shape, { device })));
    const bias = tensor(new Float32Array(window[3]!).fill(3), [window[3]!], { device });
    using y = scope(() => {
      const y = conv2d(leaves[0]!, leaves[1]!, { bias });
      sum(y).backward();
      return y;
    });
    expect(y.shape).toEqual(result);
    expect([...(await y.data())].every((value) => value === 3)).toBe(true);
    for (const leaf of leaves) {
      expect([...(await leaf.grad!.data())].every((value) => value === 0)).toBe(true);
      leaf.dispose();
    }
    bias.dispose();
  }
});

test("wrong shapes and options are named", () => {
  const x = zeros([1, 4, 4, 3]);
  const filter = zeros([2, 2, 3, 5]);
  const expectError = (body: () => unknown, code: string, message: RegExp): void => {
    expect(body).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) as string }) as Error);
  };
  expectError(() => conv2d(zeros([4, 4, 3]), filter), "ERR_SHAPE", /x of shape \[B, H, W, C\], got \[4, 4, 3\]/);
  expectError(() => conv2d(x, zeros([2, 2, 4, 5])), "ERR_SHAPE", /filter of shape \[\*, \*, 3, \*\]/);
  expectError(() => conv2d(x, zeros([5, 1, 3, 2])), "ERR_SHAPE", /at most \[4, 4\].* covers \[5, 1\]/);
  expectError(() => conv2d(x, zeros([0, 1, 3, 2])), "ERR_SHAPE", /at least one tap/);
  expectError(() => conv2d(x, filter, { stride: 0 }), "ERR_RANGE", /stride to be an integer from 1/);
  expectError(() => conv2d(x, filter, { padding: [1, 2, 3] as never }), "ERR_ARGUMENT", /padding to be a number or/);
  expectError(() => conv2d(x, filter, { bias: zeros([4]) }), "ERR_SHAPE", /bias of shape \[5\]/);
  expectError(
    () => convTranspose2d(x, zeros([2, 2, 5, 3]), { size: [4, 4] }),
    "ERR_SHAPE",
    /x of shape \[B, 3, 3, C\]/,
  );
  expectError(() => depthwiseConv2d(x, zeros([2, 2, 2, 1])), "ERR_SHAPE", /filter of shape \[kh, kw, 3, M\]/);
});
